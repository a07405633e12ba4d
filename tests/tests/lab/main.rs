//! The end-to-end tests, on the lab's real hosts: one program, so that they
//! share the labs that are up, and run on all of them at once.

mod access;
mod backup;
mod ca;
mod check;
mod deploy;
mod faults;
mod fit;
mod guide;
mod health;
mod killed;
mod member;
mod minors;
mod operate;
mod preflight;
mod promises;
mod push;
mod quorum;
mod readme;
mod restore;
mod scripts;
mod secrets;
mod snapshot;
mod units;
mod upgrade;
mod versions;
mod writer;
