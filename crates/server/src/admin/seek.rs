//! Where to begin in a partition: the offsets that a command line can name.
use super::connect::advise;
use super::point::{now_ms, parse_point};
use anyhow::anyhow;
use client_lite::{Client, EARLIEST, LATEST, Place};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seek {
    /// The first record.
    Earliest,
    /// The next record to come.
    Latest,
    /// A number.
    Offset(i64),
    /// So many records before the end.
    FromEnd(i64),
    /// The first record at or after a time, ms.
    Time(i64),
}

/// Where a place means no record of the log, and where it was moved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clamped {
    place: Place,
    asked: i64,
    to: i64,
    end: bool,
}

impl fmt::Display for Clamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Clamped { place: (topic, partition), asked, to, end } = self;
        let side = if *end { "end" } else { "start" };
        write!(f, "{topic}-{partition}: {asked} is outside the log, clamped to {to}, its {side}.")
    }
}

/// Partitions of which it is told that a place was clamped.
const TOLD: usize = 10;

/// Tells on standard error what was clamped.
pub(crate) fn tell_clamped(clamped: &[Clamped]) {
    clamped.iter().take(TOLD).for_each(|one| eprintln!("{one}"));
    if clamped.len() > TOLD {
        eprintln!("So it is with {} more partitions.", clamped.len() - TOLD);
    }
}

/// `asked` within the log, and a word to the user where that is another offset.
pub(crate) fn clamp(place: &Place, asked: i64, (start, end): (i64, i64)) -> (i64, Option<Clamped>) {
    let to = asked.clamp(start, end);
    let moved = Clamped { place: place.clone(), asked, to, end: to == end && asked > end };
    (to, (to != asked).then_some(moved))
}

/// What a user may write, for help texts.
pub(crate) const SEEK_HELP: &str = "earliest, latest, an offset, -N (N before the end), or @TIME (ms since 1970, an age like @-15m, or \
     @2026-11-21T08:30:00Z)";

impl FromStr for Seek {
    type Err = String;

    fn from_str(text: &str) -> Result<Seek, String> {
        let bad = || format!("`{text}` is no place in a log: give {SEEK_HELP}");
        match text {
            "earliest" | "start" | "beginning" => return Ok(Seek::Earliest),
            "latest" | "end" => return Ok(Seek::Latest),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return parse_point(time, now_ms()).map(Seek::Time);
        }
        match text.strip_prefix('-') {
            Some(back) => back.parse().map(Seek::FromEnd).map_err(|_| bad()),
            None => text.parse().ok().filter(|n: &i64| *n >= 0).map(Seek::Offset).ok_or_else(bad),
        }
    }
}

impl Seek {
    /// The offset that it means in each partition, within the log as it is now.
    pub(crate) async fn resolve(
        &self,
        client: &Client,
        places: &[Place],
    ) -> anyhow::Result<BTreeMap<Place, i64>> {
        Ok(self.resolve_and_say(client, places).await?.0)
    }

    /// The same, and where an offset is outside the log. More records from the end than there are mean all.
    pub(crate) async fn resolve_and_say(
        &self,
        client: &Client,
        places: &[Place],
    ) -> anyhow::Result<(BTreeMap<Place, i64>, Vec<Clamped>)> {
        let at = |timestamp| async move {
            let found = client.list_offsets(places, timestamp, false).await.map_err(advise)?;
            let offset = |place: &Place| found.get(place).map(|at| at.offset);
            places
                .iter()
                .map(|p| Ok((p.clone(), offset(p).ok_or_else(|| anyhow!("no offset of {}-{}", p.0, p.1))?)))
                .collect::<anyhow::Result<BTreeMap<Place, i64>>>()
        };
        let starts = at(EARLIEST).await?;
        let ends = at(LATEST).await?;
        let times = match self {
            Seek::Time(time) => at(*time).await?,
            _ => BTreeMap::new(),
        };
        let mut moved = Vec::new();
        let resolved = places.iter().map(|place| {
            let (start, end) = (starts[place], ends[place]);
            let offset = match self {
                Seek::Earliest => start,
                Seek::Latest => end,
                Seek::Offset(offset) => *offset,
                Seek::FromEnd(back) => end.saturating_sub(*back),
                // No record is that new: the next one to come is.
                Seek::Time(_) if times[place] < 0 => end,
                Seek::Time(_) => times[place],
            };
            let (offset, clamped) = clamp(place, offset, (start, end));
            moved.extend(clamped.filter(|_| matches!(self, Seek::Offset(_))));
            (place.clone(), offset)
        });
        let resolved = resolved.collect();
        Ok((resolved, moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        assert_eq!("earliest".parse(), Ok(Seek::Earliest));
        assert_eq!("end".parse(), Ok(Seek::Latest));
        assert_eq!("42".parse(), Ok(Seek::Offset(42)));
        assert_eq!("-10".parse(), Ok(Seek::FromEnd(10)));
        assert_eq!("@1000".parse(), Ok(Seek::Time(1000)));
        assert!("soon".parse::<Seek>().unwrap_err().contains("earliest"));
    }
}
