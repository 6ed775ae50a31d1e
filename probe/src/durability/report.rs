//! What the journals of several vantages show of the objects of a manifest, and what they cannot show.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Write as _};

use vigie_contract::{Span, Time};

use super::{How, Look, Object, Outcome, most_events};

/// A loss is seen again and again over this time at least, by each of the vantages that see it.
const PERSISTS: Span = Span::DAY;
/// So many vantages must see it.
const WITNESSES: usize = 2;
/// 365.25 days.
const YEAR_US: i128 = 31_557_600_000_000;
/// What the contract promises: of a thousand million objects one may be lost in a year.
const PROMISED_YEARLY_LOSSES: f64 = 1e-9;
/// So many objects are named in words.
const NAMED: usize = 20;

/// What is known of the objects of a manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The objects of the manifest.
    pub objects: usize,
    /// Those that were read and found right at least once.
    pub read: usize,
    /// From where anybody looked.
    pub vantages: BTreeSet<String>,
    /// How long the objects are known to have been kept, all together: each from its writing to when it was last read and right.
    pub kept_us: i128,
    /// How often each outcome was found, by reading and by asking for the head only.
    pub looks: [BTreeMap<&'static str, u64>; 2],
    /// Objects that are lost.
    pub lost: Vec<Loss>,
    /// Objects that may be.
    pub suspected: Vec<Loss>,
    /// Looks at what is not in the manifest, or at a time before it was written: they count for nothing.
    pub strange: u64,
}

/// An object that was seen absent or altered, and by nobody present since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Its name.
    pub key: String,
    /// When it was first seen so.
    pub since: Time,
    /// When it was last seen so.
    pub until: Time,
    /// By whom.
    pub vantages: BTreeSet<String>,
    /// What was seen last.
    pub outcome: Outcome,
}

impl Report {
    /// The order of the looks does not matter, nor do doubles of a journal's lines but for how many looks there were.
    #[must_use]
    pub fn of(objects: &[Object], looks: Vec<Look>) -> Self {
        let mut report = Self { objects: objects.len(), ..Self::default() };
        let places: HashMap<_, _> = objects.iter().enumerate().map(|(at, object)| ((&object.bucket, &object.key), at)).collect();
        let mut by_object: Vec<Vec<Look>> = vec![Vec::new(); objects.len()];
        for look in looks {
            match places.get(&(&look.bucket, &look.key)) {
                Some(at) if look.at_us >= objects[*at].written_us => {
                    report.vantages.insert(look.vantage.clone());
                    *report.looks[usize::from(look.how == How::Head)].entry(word(look.outcome)).or_default() += 1;
                    by_object[*at].push(look);
                }
                _ => report.strange += 1,
            }
        }
        for (object, looks) in objects.iter().zip(by_object) {
            report.add(object, looks);
        }
        report
    }

    fn add(&mut self, object: &Object, mut looks: Vec<Look>) {
        // What was seen at one instant: that it is there refutes that it is not.
        looks.sort_by(|a, b| (a.at_us, b.outcome, b.how, &a.vantage).cmp(&(b.at_us, a.outcome, a.how, &b.vantage)));
        let right = |look: &&Look| look.outcome == Outcome::Present && look.how == How::Get;
        if let Some(last) = looks.iter().rfind(right) {
            self.read += 1;
            self.kept_us += between_us(object.written_us, last.at_us);
        }
        let against = against(&looks);
        let Some((first, last)) = against.first().zip(against.last()) else { return };
        let mut seen: BTreeMap<&str, (Time, Time)> = BTreeMap::new();
        for look in &against {
            seen.entry(&look.vantage).or_insert((look.at_us, look.at_us)).1 = look.at_us;
        }
        let witnesses = seen.values().filter(|(since, until)| between_us(*since, *until) >= PERSISTS.us().into()).count();
        let vantages = seen.keys().map(|vantage| (*vantage).to_owned()).collect();
        let loss = Loss { key: object.key.clone(), since: first.at_us, until: last.at_us, vantages, outcome: last.outcome };
        if witnesses >= WITNESSES { self.lost.push(loss) } else { self.suspected.push(loss) }
    }

    /// The most losses a year of one object that are to be expected, at a confidence of 95 %; none while nothing was kept for any time.
    #[must_use]
    pub fn most_yearly_losses(&self) -> Option<f64> {
        (self.kept_us > 0).then(|| most_events(self.lost.len() as u64) * YEAR_US as f64 / self.kept_us as f64)
    }
}

/// Those looks, of one object in order of time, that speak against it and that no later one refutes: that it is there refutes that it was
/// not, that it is right refutes all.
fn against(looks: &[Look]) -> Vec<&Look> {
    let mut against = Vec::new();
    for look in looks {
        match (look.outcome, look.how) {
            (Outcome::Present, How::Get) => against.clear(),
            (Outcome::Present, How::Head) => against.retain(|look: &&Look| look.outcome == Outcome::Altered),
            (Outcome::Altered | Outcome::Absent, _) => against.push(look),
            (Outcome::Unavailable | Outcome::Refused, _) => {}
        }
    }
    against
}

/// Whatever stands in a file: a time is not read as strictly as a record's.
fn between_us(since: Time, until: Time) -> i128 {
    i128::from(until.us()) - i128::from(since.us())
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Present => "present",
        Outcome::Altered => "altered",
        Outcome::Absent => "absent",
        Outcome::Unavailable => "unavailable",
        Outcome::Refused => "refused",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vantages: Vec<&str> = self.vantages.iter().map(String::as_str).collect();
        writeln!(out, "objects       {} in the manifest, {} of them read and right at least once", self.objects, self.read)?;
        writeln!(out, "vantages      {}", if vantages.is_empty() { "none".to_owned() } else { vantages.join(", ") })?;
        let kept = self.kept_us * 1_000 / YEAR_US;
        writeln!(
            out,
            "kept          {}.{:03} object-years, each object from its writing to when it was last read and right",
            kept / 1_000,
            kept % 1_000
        )?;
        for (how, looks) in ["read", "asked for"].into_iter().zip(&self.looks) {
            let looks: Vec<String> = looks.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
            writeln!(out, "{how:<13} {}", if looks.is_empty() { "never".to_owned() } else { looks.join(", ") })?;
        }
        if self.strange > 0 {
            writeln!(out, "strange       {} looks at what the manifest does not name: not counted", self.strange)?;
        }
        write_losses(out, "lost", &self.lost)?;
        write_losses(out, "suspected", &self.suspected)?;
        match self.most_yearly_losses() {
            Some(most) => {
                writeln!(out, "upper bound   {} losses per object and year, at a confidence of 95 %", rounded_up(most))?;
                let years = most_events(0) / PROMISED_YEARLY_LOSSES;
                let share = self.kept_us as f64 / YEAR_US as f64 / years;
                writeln!(
                    out,
                    "\nThat is what can be said: if more were lost than by the upper bound, so few losses would be seen in fewer than"
                )?;
                writeln!(
                    out,
                    "one of twenty such observations. It does not show that the promised 99.9999999 % are kept, nor that they are"
                )?;
                writeln!(out, "not: that would take {years:.0} object-years without a loss, and this is {share:.1e} of them.")?;
            }
            None => writeln!(out, "upper bound   none: no object was read and found right yet")?,
        }
        out.write_str(
            "Unavailable and refused looks say nothing of durability. Who deleted or changed an object is not seen: a deletion by the\n\
             tenant or a lifecycle rule looks like a loss, and is to be taken out by people. Losses that come together count one by one.\n\
             The objects are small, few, and of one bucket: others may fare otherwise.\n",
        )
    }
}

fn write_losses(out: &mut fmt::Formatter<'_>, what: &str, losses: &[Loss]) -> fmt::Result {
    writeln!(out, "{what:<13} {}", losses.len())?;
    for loss in losses.iter().take(NAMED) {
        let vantages: Vec<&str> = loss.vantages.iter().map(String::as_str).collect();
        let Loss { key, since, until, outcome, .. } = loss;
        writeln!(out, "              {key}: {} from {since} to {until}, seen from {}", word(*outcome), vantages.join(", "))?;
    }
    if losses.len() > NAMED { writeln!(out, "              …") } else { Ok(()) }
}

/// A bound with two digits, never below what it is: `3.0e-6`.
fn rounded_up(bound: f64) -> String {
    let mut exponent = bound.log10().floor() as i32;
    let mut tenths = (bound / 10_f64.powi(exponent) * 10.0).ceil() as u32;
    if tenths >= 100 {
        (tenths, exponent) = (10, exponent + 1);
    }
    let mut text = format!("{}.{}", tenths / 10, tenths % 10);
    if exponent != 0 {
        let _ = write!(text, "e{exponent}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const WRITTEN: Time = Time::from_us(1_700_000_000_000_000);

    fn objects(count: usize) -> Vec<Object> {
        let object = |n| Object {
            bucket: "b".to_owned(),
            key: format!("k{n}"),
            sha256: String::new(),
            size_bytes: 1_024,
            version_id: None,
            written_us: WRITTEN,
        };
        (0..count).map(object).collect()
    }

    /// Looks at the object `k0`: from where, so many hours after its writing, and what was seen.
    fn looks(story: &[(&str, i64, How, Outcome)]) -> Vec<Look> {
        let look = |&(vantage, hours, how, outcome): &(&str, i64, How, Outcome)| Look {
            at_us: WRITTEN + Span::from_us(hours * HOUR),
            vantage: vantage.to_owned(),
            bucket: "b".to_owned(),
            key: "k0".to_owned(),
            how,
            outcome,
            said: String::new(),
        };
        story.iter().map(look).collect()
    }

    /// How many are lost, and how many suspected.
    fn judged(story: &[(&str, i64, How, Outcome)]) -> (usize, usize) {
        let mut looks = looks(story);
        let report = Report::of(&objects(1), looks.clone());
        looks.reverse();
        assert_eq!(Report::of(&objects(1), looks), report, "whatever the order of the lines");
        (report.lost.len(), report.suspected.len())
    }

    #[test]
    fn a_loss_is_seen_for_a_day_from_two_vantages_and_refuted_by_none() {
        use How::{Get, Head};
        use Outcome::{Absent, Altered, Present, Refused, Unavailable};
        let day_from = |vantage, outcome| [(vantage, 10, Get, outcome), (vantage, 34, Get, outcome)];
        let both = [day_from("a", Absent), day_from("b", Absent)].concat();
        assert_eq!(judged(&both), (1, 0));
        assert_eq!(judged(&[day_from("a", Altered), day_from("b", Altered)].concat()), (1, 0));
        assert_eq!(judged(&[day_from("a", Absent), day_from("b", Altered)].concat()), (1, 0));
        assert_eq!(judged(&day_from("a", Absent)), (0, 1), "one vantage");
        assert_eq!(judged(&[("a", 10, Get, Absent), ("a", 34, Get, Absent), ("b", 20, Get, Absent)]), (0, 1), "once from the other");
        assert_eq!(judged(&[("a", 10, Get, Absent), ("a", 33, Get, Absent), ("b", 10, Get, Absent), ("b", 33, Get, Absent)]), (0, 1));
        for nothing in [Unavailable, Refused] {
            assert_eq!(judged(&[day_from("a", nothing), day_from("b", nothing)].concat()), (0, 0));
            assert_eq!(judged(&[&both[..], &[("a", 40, Get, nothing)]].concat()), (1, 0));
        }
        assert_eq!(judged(&[&both[..], &[("c", 20, Get, Present)]].concat()), (0, 1), "it was there between");
        assert_eq!(judged(&[&both[..], &[("c", 40, Get, Present)]].concat()), (0, 0), "it is there again");
        assert_eq!(judged(&[&both[..], &[("c", 40, Head, Present)]].concat()), (0, 0), "it is there again");
        let altered = [day_from("a", Altered), day_from("b", Altered)].concat();
        assert_eq!(judged(&[&altered[..], &[("c", 40, Head, Present)]].concat()), (1, 0), "its length says nothing of its content");
    }

    #[test]
    fn an_object_counts_from_its_writing_to_when_it_was_last_read_and_right() {
        use How::{Get, Head};
        use Outcome::{Absent, Present};
        let story = [("a", 24, Get, Present), ("b", 48, Get, Present), ("a", 72, Head, Present), ("a", 96, Get, Absent)];
        let report = Report::of(&objects(2), looks(&story));
        assert_eq!((report.objects, report.read, report.kept_us), (2, 1, i128::from(48 * HOUR)));
        assert_eq!(report.suspected[0].vantages, BTreeSet::from(["a".to_owned()]));
        let text = report.to_string();
        assert!(text.contains("read          absent 1, present 2\nasked for     present 1\n"), "{text}");
        assert!(text.contains("kept          0.005 object-years"), "never more than it is: {text}");
    }

    #[test]
    fn what_the_manifest_does_not_name_counts_for_nothing() {
        let mut strangers = looks(&[("a", -1, How::Get, Outcome::Present), ("a", 9, How::Get, Outcome::Present)]);
        strangers[1].key = "k1".to_owned();
        let report = Report::of(&objects(1), strangers);
        assert_eq!((report.strange, report.read, report.most_yearly_losses()), (2, 0, None));
        assert!(report.to_string().contains("no object was read"));
    }

    #[test]
    fn a_million_objects_for_a_year_without_a_loss_show_three_in_a_million() {
        let kept_us = 1_000_000 * YEAR_US;
        let mut report = Report { objects: 1_000_000, read: 1_000_000, kept_us, ..Report::default() };
        assert!((report.most_yearly_losses().unwrap() / 2.995_732e-6 - 1.0).abs() < 1e-6);
        let text = report.to_string();
        assert!(text.contains("kept          1000000.000 object-years"), "{text}");
        assert!(text.contains("upper bound   3.0e-6 losses per object and year, at a confidence of 95 %"), "{text}");
        assert!(text.contains("2995732274 object-years without a loss, and this is 3.3e-4 of them"), "{text}");
        assert!(!text.contains("achieved") && text.contains("does not show that the promised"));
        let lost = Loss { key: "k".to_owned(), since: WRITTEN, until: WRITTEN, vantages: BTreeSet::new(), outcome: Outcome::Absent };
        report.lost = vec![lost; 3];
        assert!(report.to_string().contains("upper bound   7.8e-6 losses"), "{report}");
    }

    #[test]
    fn a_bound_is_never_rounded_down() {
        for (bound, text) in
            [(2.995_7e-6, "3.0e-6"), (3.01e-6, "3.1e-6"), (9.91e-4, "1.0e-3"), (4.74, "4.8"), (12.0, "1.2e1"), (0.3, "3.0e-1")]
        {
            assert_eq!(rounded_up(bound), text);
        }
    }
}
