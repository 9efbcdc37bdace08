//! Free TCP ports on loopback.
//!
//! Must not promise more than it can: between the choice and the server's own `bind` a port may be lost, so whoever
//! starts a server tries again with another one. Ports are taken from below the range from which kernels give out
//! ports for outgoing connections, so that a server can be restarted on its port.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

use crate::{Error, Result};

const FROM: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port on which nothing listens at this moment.
pub(crate) fn free() -> Result<u16> {
    // The keys of a RandomState differ from process to process and from call to call.
    let random = RandomState::new().hash_one(std::process::id());
    let start = u16::try_from(random % u64::from(COUNT)).unwrap_or_default();
    (0..COUNT)
        .map(|n| FROM + (start + n) % COUNT)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(Error::NoPort {
            from: FROM,
            to: FROM + COUNT - 1,
        })
}
