//! What is seen from outside: metrics, health, what the service manager is told, the log.
#![cfg(test)]

mod alive;
mod certificates;
mod exposition;
mod families;
mod logs;
mod manager;
mod signals;
mod strangers;
mod unread;
