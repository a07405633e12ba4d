//! What several tools do to the nodes of a cluster, and must do equally safely.
