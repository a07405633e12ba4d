//! The tool itself, on releases made for the test and a server on the loopback.

#![allow(clippy::unwrap_used)]

mod archives;
mod cache;
mod choice;
mod running;
mod support;
mod unpack;
mod web;
