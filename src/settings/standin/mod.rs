#![allow(missing_docs, unreachable_pub)]
pub mod admin;
pub mod deliver;
pub mod http;
