//! Text in aligned columns.
use std::fmt;

/// A heading and rows of the same number of cells.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of numbers stand to the right.
    numeric: Vec<bool>,
}

impl Table {
    /// A table with these columns; a name that begins with `#` is a column of numbers.
    pub(crate) fn new(columns: &[&str]) -> Table {
        let numeric = columns.iter().map(|c| c.starts_with('#')).collect();
        let heading = columns.iter().map(|c| c.trim_start_matches('#').to_owned()).collect();
        Table { rows: vec![heading], numeric }
    }

    /// Adds a row.
    pub(crate) fn push<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.numeric.len(), "a cell for each column");
        self.rows.push(cells.into());
    }

    /// Number of rows below the heading.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() - 1
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.numeric.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                let cell =
                    if self.numeric[column] { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                line.push_str(&cell);
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_right() {
        let mut table = Table::new(&["NAME", "#SIZE"]);
        table.push(["a".to_owned(), "1000000".to_owned()]);
        table.push(["l\u{e4}ngere".to_owned(), "2".to_owned()]);
        assert_eq!(table.to_string(), "NAME        SIZE\na        1000000\nl\u{e4}ngere        2\n");
    }
}
