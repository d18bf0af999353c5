//! A printed table for LaTeX, of the columns that have a heading. It needs the package `booktabs`.

use std::fmt::Write;

use super::{Cell, Column, Table, Values};

/// Undefined: an en dash.
const UNDEFINED: &str = "--";

/// The table, floating, with a caption and a label. Numbers have three decimals, and beneath them their interval, or beside
/// them their spread. `groups`: rows at which a rule is drawn above.
pub fn latex(table: &Table, groups: &[usize], caption: &str, label: &str) -> String {
    let printed: Vec<(&Column, &str)> =
        table.columns.iter().filter_map(|column| Some((column, column.heading?))).collect();
    let aligned: String = printed.iter().map(|(column, _)| alignment(&column.values)).collect();
    let headings: Vec<String> = printed.iter().map(|(_, heading)| escaped(heading)).collect();
    let mut text = format!(
        "% Needs \\usepackage{{booktabs}}.\n\\begin{{table}}\n  \\centering\n  \\small\n  \\caption{{{}}}\n  \\label{{{label}}}\n  \
         \\begin{{tabular}}{{@{{}}{aligned}@{{}}}}\n    \\toprule\n    {} \\\\\n    \\midrule\n",
        escaped(caption),
        headings.join(" & ")
    );
    for row in 0..table.rows() {
        if row > 0 && groups.contains(&row) {
            text.push_str("    \\addlinespace\n");
        }
        let cells: Vec<String> = printed.iter().map(|(column, _)| cell(table, column, row)).collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "    {} \\\\", cells.join(" & "));
    }
    text.push_str("    \\bottomrule\n  \\end{tabular}\n\\end{table}\n");
    text
}

fn alignment(values: &Values) -> char {
    match values {
        Values::Integer(_) | Values::Real(_) => 'r',
        Values::Flag(_) | Values::Text(_) | Values::List(_) => 'l',
    }
}

fn cell(table: &Table, column: &Column, row: usize) -> String {
    let beside = |suffix: &str| {
        let name = format!("{}_{suffix}", column.name);
        let companion = table.columns.iter().find(|other| other.name == name)?;
        match companion.values.cell(row) {
            Cell::Real(value) => Some(value),
            _ => None,
        }
    };
    match column.values.cell(row) {
        Cell::Undefined => UNDEFINED.to_owned(),
        Cell::Integer(value) => format!("${value}$"),
        Cell::Real(value) => match (beside("low").zip(beside("high")), beside("spread")) {
            // In braces: behind `\\`, a bracket would be an argument.
            (Some((low, high)), _) => {
                format!("\\shortstack[r]{{${value:.3}$\\\\{{\\scriptsize $[{low:.3},\\,{high:.3}]$}}}}")
            }
            (None, Some(spread)) => format!("${value:.3} \\pm {spread:.3}$"),
            (None, None) => format!("${value:.3}$"),
        },
        Cell::Flag(value) => if value { "yes" } else { "no" }.to_owned(),
        Cell::Text(text) => escaped(text),
        Cell::List(words) => escaped(&words.join(", ")),
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
        let text = latex(&awkward(), &[1], "50% of a_b", "tab:x");
        let rows: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(text.contains("\\caption{50\\% of a\\_b}") && text.contains("\\begin{tabular}{@{}lr@{}}"), "{text}");
        assert!(rows.contains(&"Name & IA \\\\"));
        assert!(rows.contains(&"dog & \\shortstack[r]{$0.100$\\\\{\\scriptsize $[0.050,\\,0.250]$}} \\\\"), "{text}");
        assert!(rows.contains(&"=1+\"1\", “ä” & -- \\\\") && rows.contains(&"-- & -- \\\\"), "{text}");
        assert_eq!(text.matches("\\addlinespace").count(), 1);
        let depth = text.replace("\\\\", "").replace("\\{", "").replace("\\}", "").chars().fold(0, |depth, character| match character {
            '{' => depth + 1,
            '}' => depth - 1,
            _ => depth,
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
        assert!(latex(&table, &[], "", "x").contains("    $0.500 \\pm 0.012$ & $1.000$ \\\\\n"));
    }

    #[test]
    fn nothing_in_a_name_is_a_command() {
        assert_eq!(escaped(r"\a{b}"), r"\textbackslash{}a\{b\}");
        assert_eq!(escaped("1_2 & 3% $4 #5 ~6 ^7 <8>"), r"1\_2 \& 3\% \$4 \#5 \textasciitilde{}6 \textasciicircum{}7 \textless{}8\textgreater{}");
        assert_eq!(escaped("a\n\nb\t\u{0}"), "a  b  ");
    }
}
