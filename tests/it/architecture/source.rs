//! A Rust file as the words that the compiler would see: no comments, no literals.

/// One word or sign, and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A function by its name and the lines from `fn` to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// A file of the repository.
pub struct Source {
    /// From the root of the repository: `src/api/error.rs`.
    pub path: String,
    pub text: String,
    pub tokens: Vec<Token>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let tokens = if path.ends_with(".rs") { tokens(text) } else { Vec::new() };
        Self { path: path.to_owned(), text: text.to_owned(), tokens }
    }

    /// Whether the words `words` stand at `at`, one after the other.
    pub fn reads(&self, at: usize, words: &[&str]) -> bool {
        let found = self.tokens[at..].iter().map(|token| token.text.as_str());
        found.take(words.len()).eq(words.iter().copied())
    }

    /// The lines on which `words` stand one after the other.
    pub fn lines_with(&self, words: &[&str]) -> Vec<usize> {
        let starts = (0..self.tokens.len()).filter(|&at| self.reads(at, words));
        starts.map(|at| self.tokens[at].line).collect()
    }

    /// All functions with a body.
    pub fn functions(&self) -> Vec<Function> {
        let named = |at: usize| self.tokens.get(at + 1).filter(|token| is_word(&token.text));
        let starts = (0..self.tokens.len()).filter(|&at| self.tokens[at].text == "fn");
        starts.filter_map(|at| self.function(at, &named(at)?.text)).collect()
    }

    fn function(&self, at: usize, name: &str) -> Option<Function> {
        let mut depth = 0;
        let mut open = at;
        loop {
            match self.tokens.get(open)?.text.as_str() {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                "{" if depth == 0 => break,
                ";" if depth == 0 => return None,
                _ => {}
            }
            open += 1;
        }
        let line = self.tokens[at].line;
        let lines = self.tokens[self.closing(open)].line - line + 1;
        Some(Function { name: name.to_owned(), line, lines })
    }

    /// Where the brace that opens at `open` closes; the last token if it never does.
    pub fn closing(&self, open: usize) -> usize {
        let mut depth = 0;
        for at in open..self.tokens.len() {
            match self.tokens[at].text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.tokens.len() - 1
    }

    /// For each token, in how many modules written inside this file it lies.
    pub fn inline_depths(&self) -> Vec<usize> {
        let mut depths = vec![0; self.tokens.len()];
        for at in 0..self.tokens.len() {
            if self.tokens[at].text == "mod" && self.word_is(at + 2, "{") {
                depths[at + 2..=self.closing(at + 2)].iter_mut().for_each(|depth| *depth += 1);
            }
        }
        depths
    }

    /// For each token, whether it is compiled for tests only.
    pub fn test_only(&self) -> Vec<bool> {
        let mut marks = vec![false; self.tokens.len()];
        for at in 0..self.tokens.len() {
            if !self.reads(at, &["#", "[", "cfg", "(", "test", ")", "]"]) {
                continue;
            }
            let body = (at..self.tokens.len())
                .find(|&next| matches!(self.tokens[next].text.as_str(), "{" | ";"));
            if let Some(open) = body.filter(|&open| self.word_is(open, "{")) {
                marks[at..=self.closing(open)].fill(true);
            }
        }
        marks
    }

    pub fn word_is(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.text == word)
    }
}

pub fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let end = skip(&chars, at);
        if let Some(end) = end {
            line += chars[at..end].iter().filter(|&&c| c == '\n').count();
            at = end;
            continue;
        }
        let end = word_end(&chars, at);
        found.push(Token { text: chars[at..end].iter().collect(), line });
        at = end;
    }
    found
}

fn word_end(chars: &[char], at: usize) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    if is_part(chars[at]) {
        return (at..chars.len()).find(|&next| !is_part(chars[next])).unwrap_or(chars.len());
    }
    if chars[at] == ':' && chars.get(at + 1) == Some(&':') { at + 2 } else { at + 1 }
}

/// The end of the space, comment or literal that begins at `at`, if one does.
fn skip(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        c if c.is_whitespace() => Some(at + 1),
        '/' if next == Some('/') => {
            Some((at..chars.len()).find(|&end| chars[end] == '\n').unwrap_or(chars.len()))
        }
        '/' if next == Some('*') => Some(block_comment_end(chars, at)),
        '"' => Some(string_end(chars, at)),
        '\'' => char_end(chars, at),
        'b' | 'c' if next == Some('"') => Some(string_end(chars, at + 1)),
        'b' if next == Some('\'') => char_end(chars, at + 1),
        'b' | 'c' if next == Some('r') && !follows_word(chars, at) => raw_end(chars, at + 2),
        'r' if !follows_word(chars, at) => raw_end(chars, at + 1),
        _ => None,
    }
}

fn follows_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut end = at;
    while end + 1 < chars.len() {
        match (chars[end], chars[end + 1]) {
            ('/', '*') => (depth, end) = (depth + 1, end + 2),
            ('*', '/') => (depth, end) = (depth - 1, end + 2),
            _ => end += 1,
        }
        if depth == 0 {
            return end;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != '"' {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

/// The end of a character, or `None` where the quote begins a lifetime.
fn char_end(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        let end = (at + 3..chars.len()).find(|&end| chars[end] == '\'')?;
        return Some(end + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

fn raw_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let mut closing = vec!['#'; hashes + 1];
    closing[0] = '"';
    let from = at + hashes + 1;
    let inside = chars[from..].windows(closing.len()).position(|window| window == closing)?;
    Some(from + inside + closing.len())
}
