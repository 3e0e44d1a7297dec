//! Spans of time on the command line.

/// Milliseconds of `90s`, `15m`, `2h`, `1d` or `250ms`.
pub(super) fn parse_span(text: &str) -> Result<i64, String> {
    let bad = || format!("`{text}` is no span of time: give a number and ms, s, m, h or d, as in 15m");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    number.parse::<i64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(bad)
}

/// A span for people: the two largest units that are not zero, `-` for none.
pub(super) fn show_span(ms: Option<i64>) -> String {
    let Some(ms) = ms else { return "-".to_owned() };
    let seconds = ms.max(0) / 1_000;
    let units =
        [("d", seconds / 86_400), ("h", seconds / 3_600 % 24), ("m", seconds / 60 % 60), ("s", seconds % 60)];
    let shown: Vec<String> = units
        .into_iter()
        .skip_while(|(_, n)| *n == 0)
        .take(2)
        .filter(|(_, n)| *n > 0)
        .map(|(unit, n)| format!("{n}{unit}"))
        .collect();
    if shown.is_empty() { "0s".to_owned() } else { shown.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_unit_and_shown_in_two() {
        for (text, ms) in [("0s", 0), ("250ms", 250), ("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000)] {
            assert_eq!(parse_span(text), Ok(ms), "{text}");
        }
        for wrong in ["", "15", "m", "-5m", "1.5h", "99999999999999999d", "5 m"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
        let shown =
            [(0, "0s"), (59_999, "59s"), (90_000, "1m 30s"), (3_600_000, "1h"), (90_061_000, "1d 1h")];
        for (ms, text) in shown {
            assert_eq!(show_span(Some(ms)), text);
        }
        assert_eq!(show_span(None), "-");
    }
}
