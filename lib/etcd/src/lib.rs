//! What is known of etcd, pure and without I/O: versions and the steps between
//! them, settings by minor version, the environment file, the layout on a
//! node, and the arithmetic of quorum.
