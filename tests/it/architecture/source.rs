//! Just enough of a Rust lexer for the rules: names, strings and signs with their lines; comments apart.

/// One source file.
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    /// Its lines.
    pub lines: Vec<String>,
    /// Its code without comments.
    pub tokens: Vec<Token>,
}

/// A piece of code.
#[derive(Clone, Debug)]
pub struct Token {
    /// From 1.
    pub line: usize,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Ident(String),
    Str(String),
    Sign(char),
}

impl Token {
    /// The name, if it is one.
    pub fn ident(&self) -> Option<&str> {
        match &self.kind {
            Kind::Ident(name) => Some(name),
            Kind::Str(_) | Kind::Sign(_) => None,
        }
    }

    /// The text of a string literal, escapes left as they are.
    pub fn string(&self) -> Option<&str> {
        match &self.kind {
            Kind::Str(text) => Some(text),
            Kind::Ident(_) | Kind::Sign(_) => None,
        }
    }

    /// Whether it is this sign.
    pub fn is(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }
}

impl Source {
    /// Splits `text` into tokens.
    pub fn parse(path: &str, text: &str) -> Self {
        let lines = text.lines().map(str::to_owned).collect();
        Self { path: path.to_owned(), lines, tokens: tokens(text) }
    }

    /// Whether `text` stands in the file, comments apart or not.
    pub fn code_contains(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }

    /// The tokens without items under `#[cfg(test)]`; none for a file of tests.
    pub fn outside_tests(&self) -> Vec<&Token> {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return Vec::new();
        }
        let mut kept = Vec::new();
        let mut index = 0;
        while index < self.tokens.len() {
            if self.is_test_attribute(index) {
                index = self.end_of_item(index + 7);
            } else {
                kept.push(&self.tokens[index]);
                index += 1;
            }
        }
        kept
    }

    /// `#[cfg(test)]` is the seven tokens `#`, `[`, `cfg`, `(`, `test`, `)`, `]`.
    fn is_test_attribute(&self, index: usize) -> bool {
        self.tokens.get(index..index + 7).is_some_and(|window| {
            window[0].is('#')
                && window[2].ident() == Some("cfg")
                && window[4].ident() == Some("test")
                && window[5].is(')')
        })
    }

    fn end_of_item(&self, mut index: usize) -> usize {
        let mut depth = 0;
        while let Some(token) = self.tokens.get(index) {
            index += 1;
            if token.is('{') {
                depth += 1;
            } else if token.is('}') {
                depth -= 1;
            }
            if depth == 0 && (token.is('}') || token.is(';')) {
                break;
            }
        }
        index
    }

    /// The top modules of this crate that the code names: after `crate::`, alone or in braces.
    pub fn modules(&self) -> Vec<(String, usize)> {
        let tokens = self.outside_tests();
        let mut modules = Vec::new();
        for (index, token) in tokens.iter().enumerate() {
            if token.ident() != Some("crate") || !tokens.get(index + 1).is_some_and(|next| next.is(':')) {
                continue;
            }
            let mut depth = 0;
            let mut expects_name = true;
            for token in &tokens[index + 3..] {
                if token.is('{') {
                    depth += 1;
                } else if token.is('}') {
                    depth -= 1;
                } else if let Some(name) = token.ident().filter(|_| expects_name && depth <= 1) {
                    modules.push((name.to_owned(), token.line));
                }
                expects_name = depth == 1 && (token.is('{') || token.is(','));
                if depth == 0 {
                    break;
                }
            }
        }
        modules
    }

    /// The comment that belongs to the code at `line`: in that line, or in the block of comments and attributes above the
    /// start of its statement, which is at most three lines away.
    pub fn comment_above(&self, line: usize) -> String {
        let mut text = self.lines[line - 1].split_once("//").map_or("", |(_, comment)| comment).to_owned();
        let mut code_lines = 0;
        for above in self.lines[..line - 1].iter().rev().map(|line| line.trim()) {
            if above.starts_with("//") {
                text.push_str(above);
                code_lines = 3;
            } else if !above.starts_with("#[") {
                let ends_statement = above.is_empty() || above.ends_with([';', '}']);
                code_lines += 1;
                if ends_statement || code_lines > 3 {
                    break;
                }
            }
        }
        text
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        let rest = &chars[at..];
        let kind = match rest {
            ['/', '/', ..] => {
                at += rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
                None
            }
            ['/', '*', ..] => {
                at += block_comment(rest);
                None
            }
            ['"', ..] => Some(string(rest, 0, &mut at)),
            ['b', '"', ..] => Some(string(rest, 1, &mut at)),
            ['r', '"' | '#', ..] | ['b', 'r', '"' | '#', ..] if raw_hashes(rest).is_some() => Some(raw(rest, &mut at)),
            ['\'', '\\', ..] => {
                at += 2 + rest[2..].iter().skip(1).position(|c| *c == '\'').map_or(0, |end| end + 2);
                None
            }
            ['\'', _, '\'', ..] => {
                at += 3;
                None
            }
            [c, ..] if c.is_alphanumeric() || *c == '_' => {
                let length = rest.iter().position(|c| !(c.is_alphanumeric() || *c == '_')).unwrap_or(rest.len());
                at += length;
                Some(Kind::Ident(rest[..length].iter().collect()))
            }
            [c, ..] => {
                at += 1;
                (!c.is_whitespace()).then_some(Kind::Sign(*c))
            }
            [] => None,
        };
        tokens.extend(kind.map(|kind| Token { line, kind }));
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Length of a comment, which may hold others.
fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string(chars: &[char], quote: usize, at: &mut usize) -> Kind {
    let mut end = quote + 1;
    while end < chars.len() && chars[end] != '"' {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    let end = end.min(chars.len());
    *at += (end + 1).min(chars.len());
    Kind::Str(chars[quote + 1..end].iter().collect())
}

/// Where the quote of a raw string stands, and how many `#` are before it; `None` for `r#name`.
fn raw_hashes(chars: &[char]) -> Option<(usize, usize)> {
    let first = chars.iter().position(|c| *c == '#' || *c == '"')?;
    let hashes = chars[first..].iter().take_while(|c| **c == '#').count();
    (chars.get(first + hashes) == Some(&'"')).then_some((first + hashes, hashes))
}

fn raw(chars: &[char], at: &mut usize) -> Kind {
    let (quote, hashes) = raw_hashes(chars).unwrap_or((0, 0));
    let closes =
        |end: usize| chars[end] == '"' && chars[end + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    let end = (quote + 1..chars.len()).find(|end| closes(*end)).unwrap_or(chars.len());
    *at += (end + 1 + hashes).min(chars.len());
    Kind::Str(chars[quote + 1..end].iter().collect())
}

#[test]
fn strings_comments_and_lifetimes_are_told_apart() {
    let source = Source::parse(
        "x.rs",
        "fn f<'a>(x: &'a str) { // \"no\"\n let c = '\"'; g(r#\"a \"b\" c\"#, \"d\\\"e\", b\"f\", '\\n'); /* /* i */ */ h }",
    );
    let strings: Vec<_> = source.tokens.iter().filter_map(Token::string).collect();
    assert_eq!(strings, ["a \"b\" c", "d\\\"e", "f"]);
    let last = source.tokens.iter().rev().find_map(|token| Some((token.ident()?, token.line)));
    assert_eq!(last, Some(("h", 2)));
}
