//! Test equipment that behaves like the provider's services, with a switch for every fault: what the checks are tested against, and what
//! the demo measures. The probe knows nothing of it.

pub mod agent;
pub mod console;
pub mod disk;
pub mod dns;
pub mod identity;
pub mod object_store;
pub mod openiaas;
mod words;
