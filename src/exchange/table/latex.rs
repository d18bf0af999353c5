//! A printed table for LaTeX, of the columns that have a heading. It needs the package `booktabs`.

use super::{Cell, Column, Table, Values};

/// Undefined: an en dash.
const UNDEFINED: &str = "--";

/// The table, floating, with a caption and a label. Numbers have three decimals, beneath them their interval, or beside them
/// their spread. Rows that begin alike stand together.
pub fn latex(table: &Table, caption: &str, label: &str) -> String {
    let printed: Vec<(&Column, &str)> =
        table.columns.iter().filter_map(|column| Some((column, column.heading?))).collect();
    let aligned: String = printed.iter().map(|(column, _)| alignment(&column.values)).collect();
    let headings: Vec<String> = printed.iter().map(|(_, heading)| escaped(heading)).collect();
    let mut lines = vec![
        "% Needs \\usepackage{booktabs}.".to_owned(),
        "\\begin{table}".into(),
        "  \\centering".into(),
        "  \\footnotesize".into(),
        "  \\setlength{\\tabcolsep}{3.5pt}".into(),
        format!("  \\caption{{{}}}", escaped(caption)),
        format!("  \\label{{{label}}}"),
        format!("  \\begin{{tabular}}{{@{{}}{aligned}@{{}}}}"),
        "    \\toprule".into(),
        format!("    {} \\\\", headings.join(" & ")),
        "    \\midrule".into(),
    ];
    let mut first: Option<String> = None;
    for row in 0..table.rows() {
        let cells: Vec<String> = printed.iter().map(|(column, _)| cell(table, column, row)).collect();
        if first.as_ref().is_some_and(|first| cells.first() != Some(first)) {
            lines.push("    \\addlinespace".into());
        }
        lines.push(format!("    {} \\\\", cells.join(" & ")));
        first = cells.into_iter().next();
        let intervals: Vec<String> = printed.iter().map(|(column, _)| interval(table, column, row)).collect();
        if intervals.iter().any(|interval| !interval.is_empty()) {
            lines.push(format!("    {} \\\\", intervals.join(" & ")));
        }
    }
    lines.extend(["    \\bottomrule", "  \\end{tabular}", "\\end{table}", ""].map(str::to_owned));
    lines.join("\n")
}

fn alignment(values: &Values) -> char {
    match values {
        Values::Integer(_) | Values::Real(_) => 'r',
        Values::Flag(_) | Values::Text(_) | Values::List(_) => 'l',
    }
}

fn cell(table: &Table, column: &Column, row: usize) -> String {
    match column.values.cell(row) {
        Cell::Undefined => UNDEFINED.to_owned(),
        Cell::Integer(value) => format!("${value}$"),
        Cell::Real(value) => {
            let spread = beside(table, column, "spread", row).map(|spread| format!(" \\pm {spread:.3}"));
            format!("${value:.3}{}$", spread.unwrap_or_default())
        }
        Cell::Flag(value) => if value { "yes" } else { "no" }.to_owned(),
        Cell::Text(text) => escaped(text),
        Cell::List(words) => escaped(&words.join(", ")),
    }
}

/// Empty without one. In braces, as a bracket after `\\\\` would be its argument.
fn interval(table: &Table, column: &Column, row: usize) -> String {
    let end = |suffix| beside(table, column, suffix, row);
    let ends = end("low").zip(end("high"));
    ends.map_or_else(String::new, |(low, high)| format!("{{\\tiny $[{low:.3},{high:.3}]$}}"))
}

/// A number of the column that belongs to another one.
fn beside(table: &Table, column: &Column, suffix: &str, row: usize) -> Option<f64> {
    let companion = table.columns.iter().find(|other| other.name == format!("{}_{suffix}", column.name))?;
    match companion.values.cell(row) {
        Cell::Real(value) => Some(value),
        Cell::Undefined | Cell::Integer(_) | Cell::Flag(_) | Cell::Text(_) | Cell::List(_) => None,
    }
}

/// Text in which nothing is a command.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '±' => escaped.push_str("$\\pm$"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(character);
            }
            // A blank line would end a paragraph, which a caption must not.
            character if character.is_whitespace() || character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::tests::awkward;
    use super::*;

    #[test]
    fn headings_make_the_columns_and_undefined_is_a_dash() {
        let text = latex(&awkward(), "50% of a_b", "tab:x");
        let rows: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(text.contains("\\caption{50\\% of a\\_b}") && text.contains("\\begin{tabular}{@{}lr@{}}"), "{text}");
        assert!(rows.contains(&"Name & IA \\\\"));
        assert!(
            text.contains("    dog & $0.100$ \\\\\n     & {\\tiny $[0.050,0.250]$} \\\\\n    \\addlinespace\n"),
            "{text}"
        );
        assert!(rows.contains(&"=1+\"1\", “ä” & -- \\\\") && rows.contains(&"-- & -- \\\\"), "{text}");
        assert_eq!(text.matches("\\addlinespace").count(), 2);
        let depth =
            text.replace("\\\\", "").replace("\\{", "").replace("\\}", "").chars().fold(0, |depth, character| {
                match character {
                    '{' => depth + 1,
                    '}' => depth - 1,
                    _ => depth,
                }
            });
        assert_eq!(depth, 0);
    }

    #[test]
    fn a_spread_stands_beside_its_mean() {
        let column = |name: &str, value| Column::new(name, Values::Real(vec![value]));
        let table = Table::new(vec![
            column("ia", Some(0.5)).printed("IA"),
            column("ia_low", None),
            column("ia_high", None),
            column("ia_spread", Some(0.0123)),
            column("ip", Some(1.0)).printed("IP"),
        ]);
        assert!(latex(&table, "", "x").contains("    $0.500 \\pm 0.012$ & $1.000$ \\\\\n"));
    }

    #[test]
    fn nothing_in_a_name_is_a_command() {
        assert_eq!(escaped(r"\a{b}"), r"\textbackslash{}a\{b\}");
        assert_eq!(
            escaped("1_2 & 3% $4 #5 ~6 ^7 <8>"),
            r"1\_2 \& 3\% \$4 \#5 \textasciitilde{}6 \textasciicircum{}7 \textless{}8\textgreater{}"
        );
        assert_eq!(escaped("a\n\nb\t\u{0}"), "a  b  ");
    }
}
