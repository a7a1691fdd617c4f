//! Under systemd: the unit that is shipped, and sockets that outlive a restart. The tools are Debian's package `systemd`.

mod handover;
mod unit;
