//! Points in time on the command line, and how they are shown.
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_MS: i64 = 86_400_000;

/// Now, ms since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis().min(i64::MAX as u128) as i64)
}

/// Reads a point in time: ms since 1970, `-15m` (ago: s, m, h, d), or `2026-11-21T08:30:00Z` (UTC; the
/// time may be left out).
pub(crate) fn parse_point(text: &str, now: i64) -> Result<i64, String> {
    let bad = || {
        format!(
            "`{text}` is no point in time: give milliseconds since 1970, an age like -15m (s, m, h, d), or \
             a UTC time like 2026-11-21T08:30:00Z"
        )
    };
    if let Some(age) = text.strip_prefix('-') {
        let at = age.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, unit) = age.split_at(at);
        let factor = match unit {
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => DAY_MS,
            _ => return Err(bad()),
        };
        let number: i64 = number.parse().map_err(|_| bad())?;
        return number.checked_mul(factor).and_then(|age| now.checked_sub(age)).ok_or_else(bad);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_err(|_| bad());
    }
    parse_utc(text).ok_or_else(bad)
}

fn parse_utc(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let mut date = date.splitn(3, '-').map(|p| p.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (hms, fraction) = {
        let time = time.strip_suffix('Z').unwrap_or(time);
        time.split_once('.').unwrap_or((time, ""))
    };
    let mut hms = hms.splitn(3, ':').map(|p| p.parse::<i64>().ok());
    let (hour, minute, second) = (hms.next()??, hms.next()??, hms.next().unwrap_or(Some(0))?);
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    if !in_range {
        return None;
    }
    let mut ms = 0;
    for at in 0..3 {
        ms = ms * 10
            + fraction
                .as_bytes()
                .get(at)
                .map_or(Some(0), |b| b.is_ascii_digit().then(|| i64::from(b - b'0')))?;
    }
    Some(days_since_1970(year, month, day) * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A timestamp for people: `2026-11-21T08:30:00.000Z`, or `-` for none.
pub(crate) fn show_point(ms: i64) -> String {
    if ms < 0 {
        return "-".to_owned();
    }
    let days = ms.div_euclid(DAY_MS) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (s, ms) = (ms.rem_euclid(DAY_MS) / 1000, ms.rem_euclid(1000));
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown_alike() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T23:59:59.999Z", 951_868_799_999),
            ("2026-11-21T08:30:00.000Z", 1_795_249_800_000),
            ("2100-03-01T00:00:00.000Z", 4_107_542_400_000),
        ] {
            assert_eq!(parse_point(text, 0), Ok(ms), "{text}");
            assert_eq!(show_point(ms), text);
        }
        assert_eq!(parse_point("2026-11-21", 0), Ok(1_795_219_200_000));
    }

    #[test]
    fn ages_and_milliseconds_are_read() {
        assert_eq!(parse_point("-2h", 10_000_000), Ok(2_800_000));
        assert_eq!(parse_point("1795249800000", 0), Ok(1_795_249_800_000));
        for wrong in ["", "-", "-5", "-5y", "tomorrow", "2026-13-01", "2026-11-21T25:00:00Z"] {
            assert!(parse_point(wrong, 0).is_err(), "{wrong}");
        }
    }
}
