//! The Simple Two-Way Active Measurement Protocol (RFC 8762, unauthenticated mode; session identifier and padding as in RFC 8972).
//!
//! A sender numbers and stamps its packets, a reflector adds when it received and answered them. Any STAMP reflector can be the peer of
//! ours, and any STAMP sender the peer of our reflector, which only answers whom it was told to ([`reflector`]). The same peers have what
//! they send over TCP sent back to them ([`echo`]).

pub(crate) mod echo;
pub(crate) mod packet;
mod peer;
pub(crate) mod reflector;
pub(crate) mod sender;
mod session;
mod socket;
#[cfg(test)]
pub(crate) mod tests;

pub use peer::{NoPrefix, Prefix};
pub(crate) use session::Exchange;
#[cfg(test)]
pub(crate) use session::OneWay;
pub(crate) use socket::MOST_BYTES;
