//! Ceilings that no catalogue can lift: what a probe may do to a target, whatever it is told (DESIGN §5).

use vigie_contract::Span;

/// Of an answer no more is read.
pub(crate) const MOST_BODY_BYTES: usize = 1 << 20;
/// A target is not measured more often than this from one vantage, and never twice at a time: both attempts fit into a period.
pub(crate) const SHORTEST_PERIOD: Span = Span::from_secs(1);
/// The second attempt begins at least this long after the first (SPEC §1).
pub const RETRY_AFTER: Span = Span::from_us(1_100_000);
/// So many plugins run at a time in one process.
pub(crate) const MOST_PLUGINS: usize = 128;
/// So many plugins of one target: the one of each attempt.
pub(crate) const MOST_PLUGINS_OF_TARGET: usize = 2;
/// One vantage asks one host over HTTP at most so often, in microhertz: 20 times a second. The provider's limit is 25 for one source
/// address, and whoever exceeds it may lose access to everything.
pub(crate) const MOST_HTTP_PER_HOST_UHZ: u64 = 20_000_000;
/// One vantage connects or sends to one host at most so often otherwise, in microhertz: 100 times a second.
pub(crate) const MOST_PER_HOST_UHZ: u64 = 100_000_000;
/// All vantages together make the same request to an API at most so often, in microhertz: every other second (DESIGN §5).
pub(crate) const MOST_IDENTICAL_UHZ: u64 = 500_000;
/// A journey through a console has at most so many steps …
pub(crate) const MOST_STEPS: usize = 12;
/// … and each follows at most so many redirections, which is …
pub(crate) const MOST_REDIRECTS: usize = 10;
/// … this many where a catalogue does not say.
pub(crate) const USUAL_REDIRECTS: usize = 5;
/// So many outward anchors of a target are tried at once.
pub(crate) const MOST_ANCHORS: usize = 16;
