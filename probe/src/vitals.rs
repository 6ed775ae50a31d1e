//! What a machine says of its own life: totals that its kernel keeps, so that whoever asks twice knows what happened between.
//!
//! A peer asks by a TLV (RFC 8972 §4) of a type for private use, 252, behind a STAMP request; a reflector of ours fills it in and clears
//! the flag U, any other sends it back as it came. So the question goes to whom [`crate::stamp::reflector`] answers, as often as that
//! does, and the answer is exactly as long as the question, in which all of this is zero:
//!
//! ```text
//! 0      1      2          4            20        28        36        44        52        60        68            76
//! | U 0  | 252  | length 72 | boot id   | up      | asleep  | lived   | ticks   | stolen  | waited  | clock error |
//! ```
//!
//! All numbers are big-endian, times are microseconds, and what is not known has all bits set.

use std::io;
use std::time::{Duration, Instant};

use vigie_contract::Span;

use crate::clock::{span, time_asleep, time_existed};
use crate::stamp::packet::{RECOGNISED, TLV_HEAD, tlv};

const KIND: u8 = 252;
const BYTES: usize = 72;
const UNKNOWN: u64 = u64::MAX;
/// Between two beats no more than this is lived, however long it was: the thread did not run although it had to.
const LONGEST_BEAT: Duration = Duration::from_millis(500);
/// The kernel's tables are read at most this often, whoever asks.
const READING: Duration = Duration::from_secs(1);

/// Totals since the machine booted, but for `lived`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vitals {
    /// Another one after every boot.
    pub(crate) boot: u128,
    /// Since it booted, running or suspended.
    pub(crate) up: Span,
    /// Of that, suspended.
    pub(crate) asleep: Span,
    /// How long the thread that tells this has run, since the program began; `None` if nobody counts.
    pub(crate) lived: Option<Span>,
    /// Hundredths of a second of all processors, idle ones too.
    pub(crate) ticks: u64,
    /// Of these, what the hypervisor gave to others while the machine had work.
    pub(crate) stolen_ticks: u64,
    /// What runnable threads waited for a processor, all together; `None` if the kernel does not count it.
    pub(crate) waited: Option<Span>,
    /// How far the clock may be off the log's, if that is known.
    pub(crate) clock_error: Option<Span>,
}

impl Vitals {
    /// What stands behind a STAMP request to ask for them.
    pub(crate) fn question() -> Vec<u8> {
        tlv(KIND, &[0; BYTES])
    }

    /// Fills in what follows a request, if that asks for vitals.
    pub(crate) fn answer(tail: &mut [u8], vitals: impl FnOnce() -> Self) {
        if tail == Self::question() {
            tail[0] = RECOGNISED;
            tail[TLV_HEAD..].copy_from_slice(&vitals().to_bytes());
        }
    }

    /// What follows a reply, if somebody who understood the question filled it in.
    pub(crate) fn told(tail: &[u8]) -> Option<Self> {
        let (head, value) = tail.split_first_chunk::<TLV_HEAD>()?;
        let is_ours = *head == [RECOGNISED, KIND, 0, BYTES as u8];
        let value: &[u8; BYTES] = value.try_into().ok().filter(|_| is_ours)?;
        Some(Self::from_bytes(value))
    }

    fn to_bytes(self) -> [u8; BYTES] {
        let us = |span: Span| span.us().cast_unsigned();
        let known = |span: Option<Span>| span.map_or(UNKNOWN, us);
        let (boot, numbers) = (
            self.boot.to_be_bytes(),
            [us(self.up), us(self.asleep), known(self.lived), self.ticks, self.stolen_ticks, known(self.waited), known(self.clock_error)],
        );
        let mut bytes = [0; BYTES];
        bytes[..boot.len()].copy_from_slice(&boot);
        for (room, number) in bytes[boot.len()..].chunks_exact_mut(8).zip(numbers) {
            room.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; BYTES]) -> Self {
        let (boot, numbers) = bytes.split_at(16);
        let number = |at: usize| numbers[at * 8..][..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        // What is too large to be a time is not known either.
        let us = |at| i64::try_from(number(at)).ok().and_then(|us| Span::checked(us).ok());
        let boot = boot.iter().fold(0, |boot, byte| boot << 8 | u128::from(*byte));
        Self {
            boot,
            up: us(0).unwrap_or_default(),
            asleep: us(1).unwrap_or_default(),
            lived: us(2),
            ticks: number(3),
            stolen_ticks: number(4),
            waited: us(5),
            clock_error: us(6),
        }
    }
}

/// Watches the machine that it runs on, from one thread.
#[derive(Debug)]
pub(crate) struct Watch {
    boot: u128,
    beaten: Instant,
    lived: Span,
    read: Instant,
    /// The last reading: of all ticks and of the stolen ones, and of what threads waited.
    ticks: (u64, u64),
    waited: Option<Span>,
}

impl Watch {
    pub(crate) fn start(at: Instant) -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let boot = boot_id(&text).ok_or_else(|| io::Error::other("the system has no identifier of its boot"))?;
        let mut watch = Self { boot, beaten: at, lived: Span::ZERO, read: at, ticks: (0, 0), waited: None };
        watch.look();
        Ok(watch)
    }

    /// The thread runs at `at`: what passed since it last said so, it lived, unless that is too long for a thread that was not kept waiting.
    pub(crate) fn beat(&mut self, at: Instant) {
        let passed = at.saturating_duration_since(self.beaten);
        self.lived = self.lived + span(passed.min(LONGEST_BEAT));
        self.beaten = at;
        if at.saturating_duration_since(self.read) >= READING {
            self.read = at;
            self.look();
        }
    }

    /// What is known of the machine, by a clock that may be off by `clock_error`.
    pub(crate) fn vitals(&self, clock_error: Span) -> Vitals {
        Vitals {
            boot: self.boot,
            up: time_existed(),
            asleep: time_asleep(),
            lived: Some(self.lived),
            ticks: self.ticks.0,
            stolen_ticks: self.ticks.1,
            waited: self.waited,
            clock_error: Some(clock_error).filter(|error| error.us() > 0),
        }
    }

    fn look(&mut self) {
        let text = |path| std::fs::read_to_string(path).ok();
        self.ticks = text("/proc/stat").as_deref().and_then(ticks).unwrap_or(self.ticks);
        self.waited = text("/proc/schedstat").as_deref().and_then(waited);
    }
}

/// The identifier in `/proc/sys/kernel/random/boot_id`.
fn boot_id(text: &str) -> Option<u128> {
    let digits = text.trim().replace('-', "");
    u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)
}

/// All ticks of all processors and the stolen ones among them, from `/proc/stat`. The two columns behind the stolen ones, of guests, are
/// counted in the first two already.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let columns: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).take(8).collect();
    Some((columns.iter().sum(), *columns.get(7)?))
}

/// What threads waited for a processor, from the eighth column of each processor in `/proc/schedstat`, in nanoseconds since version 14.
fn waited(schedstat: &str) -> Option<Span> {
    let version: u32 = schedstat.lines().next()?.strip_prefix("version ")?.trim().parse().ok()?;
    let column = match version {
        14 => 11,
        15.. => 8,
        _ => return None,
    };
    let processors = schedstat.lines().filter(|line| line.starts_with("cpu"));
    let waits = processors.map(|line| line.split_whitespace().nth(column).and_then(|word| word.parse::<u64>().ok()));
    let ns: u64 = waits.collect::<Option<Vec<_>>>()?.iter().sum();
    i64::try_from(ns / 1_000).ok().map(Span::from_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    const STAT: &str = "cpu  980942 224 96680 3157017 4165 7 3483 11836 500 3\n\
                        cpu0 492703 77 48367 1575831 2671 0 1516 5893 0 0\nintr 1 2\nbtime 1774567890\n";

    #[test]
    fn steal_time_is_a_share_of_all_ticks() {
        assert_eq!(ticks(STAT), Some((980_942 + 224 + 96_680 + 3_157_017 + 4_165 + 7 + 3_483 + 11_836, 11_836)));
        // Before Linux 2.6.11 nobody could steal.
        assert_eq!(ticks("cpu  1 2 3 4 5 6 7\n"), None);
        assert_eq!(ticks("intr 5\n"), None);
    }

    #[test]
    fn run_queue_delay_is_the_sum_over_the_processors() {
        let text = "version 17\ntimestamp 4294992\ncpu0 0 0 0 0 0 0 81000000 5000999 42\ndomain0 MC 3 0 0\n\
                    cpu1 0 0 0 0 0 0 72000000 7000 41\ndomain0 MC 3 0 0\n";
        assert_eq!(waited(text), Some(Span::from_us(5_007)));
        let old = "version 14\ntimestamp 1\ncpu0 0 0 0 0 0 0 0 0 0 81000000 9000 42\n";
        assert_eq!(waited(old), Some(Span::from_us(9)));
        for unknown in ["", "version 10\ncpu0 1 2 3 4 5 6 7 8 9\n", "version 16\ncpu0 1 2 3\n", "cpu0 0 0 0 0 0 0 1 2 3\n"] {
            assert_eq!(waited(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_boot_has_an_identifier() {
        assert_eq!(boot_id("1d2bc5d6-16d0-4a9a-a396-75847a3a507e\n"), Some(0x1d2b_c5d6_16d0_4a9a_a396_7584_7a3a_507e));
        assert_eq!(boot_id("1d2bc5d6"), None);
        assert_eq!(boot_id(""), None);
    }

    #[test]
    fn time_in_which_the_thread_did_not_run_is_not_lived() {
        let at = now();
        let mut watch = Watch::start(at).unwrap();
        let beats = [200, 400, 600, 20_600, 20_800];
        beats.iter().for_each(|ms| watch.beat(at + Duration::from_millis(*ms)));
        assert_eq!(watch.vitals(Span::ZERO).lived, Some(Span::from_us(800_000 + 500_000)));
    }

    #[test]
    fn this_machine_has_vitals() {
        let vitals = Watch::start(now()).unwrap().vitals(Span::from_us(7));
        assert!(vitals.up > Span::ZERO && vitals.asleep >= Span::ZERO && vitals.boot != 0, "{vitals:?}");
        assert!(vitals.ticks > 0 && vitals.stolen_ticks < vitals.ticks, "{vitals:?}");
        assert_eq!(vitals.clock_error, Some(Span::from_us(7)));
    }

    #[test]
    fn an_answer_is_as_long_as_its_question_and_is_read_as_it_was_told() {
        let vitals = Vitals {
            boot: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
            up: Span::from_us(1),
            asleep: Span::from_us(2),
            lived: None,
            ticks: 4,
            stolen_ticks: 5,
            waited: Some(Span::from_us(6)),
            clock_error: None,
        };
        let mut tail = Vitals::question();
        assert_eq!((tail.len(), &tail[..6]), (76, &[0x80, 252, 0, 72, 0, 0][..]));
        Vitals::answer(&mut tail, || vitals);
        let numbers = [&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2][..], &[0xff; 8], &[0, 0, 0, 0, 0, 0, 0, 4]].concat();
        assert_eq!((&tail[..6], &tail[20..52]), (&[0, 252, 0, 72, 1, 2][..], &numbers[..]));
        assert_eq!(Vitals::told(&tail), Some(vitals));
        for end in 0..tail.len() {
            assert_eq!(Vitals::told(&tail[..end]), None);
        }
    }

    #[test]
    fn what_asks_for_something_else_stays_as_it_is_and_tells_nothing() {
        let padding = tlv(1, &[0; BYTES]);
        let longer = [&Vitals::question()[..], &[0]].concat();
        for tail in [vec![], vec![0x80], padding, longer, Vitals::question()[..75].to_vec()] {
            let mut answered = tail.clone();
            Vitals::answer(&mut answered, || unreachable!("nobody asked"));
            assert_eq!((Vitals::told(&answered), answered), (None, tail));
        }
        assert_eq!(Vitals::told(&Vitals::question()), None, "nobody understood it");
    }
}
