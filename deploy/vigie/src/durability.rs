//! `vigie durability`: canary objects that are kept for years, and what that shows of line 10.1 ([`vigie_probe::durability`]).
//!
//! The manifest and the journals are files of people's: make the objects once, look at them from each vantage by a timer (daily at the head
//! of some, monthly at the content of all), and bring the journals together for a report. The bucket is one without a lifecycle, and best
//! one that keeps versions.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vigie_aggregator::clock::wall_now;
use vigie_contract::catalogue::Strictness;
use vigie_contract::{Catalogue, Time};
use vigie_probe::durability::{APART, Bucket, How, Look, Object, Report};

use crate::catalogue_file;
use crate::shell::{self, Failure};

/// Write canary objects, look at them, and report what that shows of their durability
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write objects of 1 KiB and add them to a manifest
    Create(Create),
    /// Look at the objects of a manifest and add what was seen to the journal of a vantage
    Check(Check),
    /// Say what the journals of several vantages show, and what they cannot
    Report(Reporting),
}

/// Which object store.
#[derive(clap::Args)]
struct Place {
    /// The catalogue with a target that is checked as `s3`
    #[arg(long, value_name = "FILE")]
    catalogue: PathBuf,
    /// That target: its endpoint, region and keys are used
    #[arg(long, value_name = "TARGET")]
    target: String,
    /// The bucket of the objects, if it is not the target's
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
    /// How long to wait for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout_s: u64,
}

#[derive(clap::Args)]
struct Create {
    #[command(flatten)]
    place: Place,
    /// The manifest, NDJSON: one object per line; made if there is none
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// How many objects to write
    #[arg(long, value_name = "COUNT")]
    objects: u64,
    /// What their names begin with
    #[arg(long, value_name = "TEXT", default_value = "vigie-durability/")]
    prefix: String,
}

#[derive(clap::Args)]
struct Check {
    #[command(flatten)]
    place: Place,
    /// The manifest
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The journal of this vantage, NDJSON: one look per line; made if there is none
    #[arg(long, value_name = "FILE")]
    journal: PathBuf,
    /// From where: a vantage of the catalogue
    #[arg(long, value_name = "VANTAGE")]
    vantage: String,
    /// Whether the content is read, or only the head asked for
    #[arg(long, value_enum, default_value_t = Manner::Get)]
    how: Manner,
    /// Look at so many objects only: those that this journal has not seen for longest
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Manner {
    Get,
    Head,
}

#[derive(clap::Args)]
struct Reporting {
    /// The manifest
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// A vantage's journal; repeat it for each
    #[arg(long = "journal", value_name = "FILE", required = true)]
    journals: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run_quietly(async {
        match &args.command {
            Command::Create(args) => create(args).await,
            Command::Check(args) => check(args).await,
            Command::Report(args) => report(args),
        }
    })
}

impl Place {
    fn catalogue(&self) -> Result<Catalogue, Failure> {
        let catalogue = catalogue_file::read(&self.catalogue, Strictness::Replay, &mut io::stderr().lock())?;
        catalogue.ok_or_else(|| Failure::new(format!("the catalogue {} cannot be used", self.catalogue.display())))
    }

    fn bucket(&self, catalogue: &Catalogue) -> Result<Bucket, Failure> {
        let target = catalogue.targets.iter().find(|target| target.id.as_str() == self.target);
        let target = target.ok_or_else(|| Failure::new(format!("the catalogue has no target `{}`", self.target)))?;
        let plan = target.plan.at(wall_now());
        let check = plan.check.as_ref().ok_or_else(|| Failure::new(format!("target `{}` has no check", self.target)))?;
        let bucket = Bucket::of(check, self.bucket.as_deref(), Duration::from_secs(self.timeout_s));
        bucket.map_err(|error| Failure::new(format!("the check of target `{}`: {error}", self.target)))
    }
}

async fn create(args: &Create) -> Result<(), Failure> {
    let bucket = args.place.bucket(&args.place.catalogue()?)?;
    let mut manifest = Lines::append(&args.manifest)?;
    for written in 0..args.objects {
        let object = bucket.write(&args.prefix).await.map_err(|why| {
            Failure::new(format!(
                "bucket {}: {why}; {written} objects were written and are in the manifest: go on with the rest",
                bucket.name()
            ))
        })?;
        manifest.add(&object)?;
        pause().await;
    }
    manifest.keep()?;
    say(&format!("{} objects written into bucket {}, and added to {}", args.objects, bucket.name(), args.manifest.display()))
}

async fn check(args: &Check) -> Result<(), Failure> {
    let catalogue = args.place.catalogue()?;
    if !catalogue.vantages.iter().any(|vantage| vantage.id.as_str() == args.vantage) {
        return Err(Failure::new(format!("the catalogue has no vantage `{}`", args.vantage)));
    }
    let bucket = args.place.bucket(&catalogue)?;
    let mut objects: Vec<Object> = all(&args.manifest)?;
    if let Some(object) = objects.iter().find(|object| object.bucket != bucket.name()) {
        let (named, meant) = (&object.bucket, bucket.name());
        return Err(Failure::new(format!("the manifest has objects of bucket {named}, and {meant} is asked: say --bucket {named}")));
    }
    let seen = if args.journal.exists() { last_seen(&readable(&args.journal)?) } else { HashMap::new() };
    objects.sort_by_key(|object| seen.get(&object.key).copied());
    objects.truncate(args.sample.unwrap_or(usize::MAX));
    let how = match args.how {
        Manner::Get => How::Get,
        Manner::Head => How::Head,
    };
    let mut journal = Lines::append(&args.journal)?;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for object in &objects {
        let look = bucket.look(object, how, &args.vantage).await;
        *counts.entry(format!("{:?}", look.outcome).to_lowercase()).or_default() += 1;
        journal.add(&look)?;
        pause().await;
    }
    journal.keep()?;
    let counts: Vec<String> = counts.into_iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
    say(&format!("{} objects looked at: {}", objects.len(), counts.join(", ")))
}

fn report(args: &Reporting) -> Result<(), Failure> {
    let objects = all(&args.manifest)?;
    let mut looks = Vec::new();
    for journal in &args.journals {
        looks.extend(readable::<Look>(journal)?);
    }
    write!(io::stdout().lock(), "{}", Report::of(&objects, looks))?;
    Ok(())
}

/// When each object was last looked at.
fn last_seen(looks: &[Look]) -> HashMap<String, Time> {
    let mut last = HashMap::new();
    for look in looks {
        let at = last.entry(look.key.clone()).or_insert(look.at_us);
        *at = look.at_us.max(*at);
    }
    last
}

/// Requests are that far apart.
async fn pause() {
    tokio::time::sleep(Duration::from_micros(APART.us().unsigned_abs())).await;
}

fn say(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(())
}

/// A file that lines are added to.
struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    fn append(path: &Path) -> Result<Self, Failure> {
        let wrong = |error: io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(wrong)?;
        // Whoever was killed within a line must not spoil the next one.
        let mut last = [b'\n'];
        if file.seek(SeekFrom::End(0)).map_err(wrong)? > 0 {
            file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(wrong)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n").map_err(wrong)?;
        }
        Ok(Self { path: path.to_owned(), file })
    }

    fn add(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| self.wrong(&error))
    }

    /// On disk, for good.
    fn keep(self) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| self.wrong(&error))
    }

    fn wrong(&self, error: &io::Error) -> Failure {
        Failure::new(format!("cannot write {}: {error}", self.path.display()))
    }
}

/// The lines of a file, and beside each that cannot be read why.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<Result<T, String>>, Failure> {
    let wrong = |error: io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
    let mut lines = Vec::new();
    for (number, line) in BufReader::new(File::open(path).map_err(wrong)?).split(b'\n').enumerate() {
        let line = line.map_err(wrong)?;
        if !line.is_empty() {
            lines.push(serde_json::from_slice(&line).map_err(|error| format!("{}, line {}: {error}", path.display(), number + 1)));
        }
    }
    Ok(lines)
}

/// All lines of a manifest: whoever forgets an object loses it.
fn all<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Failure> {
    lines(path)?.into_iter().collect::<Result<_, _>>().map_err(Failure::new)
}

/// The lines of a journal that can be read; the others are named: evidence that is missing proves nothing.
fn readable<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Failure> {
    let mut errors = io::stderr().lock();
    let mut read = Vec::new();
    for line in lines(path)? {
        match line {
            Ok(line) => read.push(line),
            Err(why) => writeln!(errors, "skipped: {why}")?,
        }
    }
    Ok(read)
}
