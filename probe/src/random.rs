//! Numbers that nobody else has drawn.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// 64 random bits: the standard library keys every `RandomState` from the system's generator and a counter.
pub(crate) fn u64() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// 128 random bits from the system's generator, as 32 hexadecimal digits: the `run` of a process (SPEC §1).
pub(crate) fn run_id() -> std::io::Result<String> {
    use std::io::Read;
    let mut bits = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bits)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bits)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_runs_are_the_same() {
        let (one, other) = (super::run_id().unwrap(), super::run_id().unwrap());
        assert!(one.len() == 32 && one != other);
        assert_ne!(super::u64(), super::u64());
    }
}
