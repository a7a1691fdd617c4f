//! `deploy/package`: what it makes of a binary, and the Debian package's life on a machine: installed, upgraded under load,
//! removed, purged.

mod build;
mod contents;
mod life;
mod machine;
mod systemd;
