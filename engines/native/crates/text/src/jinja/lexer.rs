use super::Fault;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Text outside of tags.
    Data(String),
    ExpressionStart,
    ExpressionEnd,
    BlockStart,
    BlockEnd,
    Name(String),
    Text(String),
    Integer(i128),
    Float(f64),
    Operator(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub token: Token,
    pub line: usize,
}

/// Longest first, so that the first that fits is right.
const OPERATORS: [&str; 27] = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ".",
    ",", ":", "|", ";", "!",
];

struct Lexer<'s> {
    source: &'s str,
    position: usize,
    line: usize,
    tokens: Vec<Placed>,
    trim: bool,
    /// Whether the last tag took the newline behind it.
    line_starting: bool,
}

/// The tokens of a template. With `trim`: `trim_blocks`, `lstrip_blocks` and one newline less at the end.
pub(super) fn tokens(source: &str, trim: bool) -> Result<Vec<Placed>, Fault> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if trim && source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { source: &source, position: 0, line: 1, tokens: Vec::new(), trim, line_starting: true };
    lexer.run()?;
    let line = lexer.line;
    lexer.tokens.push(Placed { token: Token::End, line });
    Ok(lexer.tokens)
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.position..]
    }

    fn advance(&mut self, bytes: usize) {
        self.line += self.rest()[..bytes].matches('\n').count();
        self.position += bytes;
    }

    fn push(&mut self, token: Token) {
        self.tokens.push(Placed { token, line: self.line });
    }

    fn fault<T>(&self, message: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { message: message.into(), line: self.line })
    }

    fn run(&mut self) -> Result<(), Fault> {
        loop {
            let rest = self.rest();
            let start =
                rest.match_indices('{').find(|(at, _)| matches!(rest.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')));
            let Some((start, _)) = start else {
                self.data(rest.len(), rest.len());
                return Ok(());
            };
            let kind = rest.as_bytes()[start + 1];
            let sign = rest.as_bytes().get(start + 2).copied();
            let mut end = start;
            if sign == Some(b'-') {
                end = rest[..start].trim_end().len();
            } else if sign != Some(b'+') && self.trim && kind != b'{' {
                let line = rest[..start].rfind('\n').map_or(0, |at| at + 1);
                if (line > 0 || self.line_starting) && rest[line..start].chars().all(char::is_whitespace) {
                    end = line;
                }
            }
            self.data(end, start);
            let signed = usize::from(matches!(sign, Some(b'-' | b'+')));
            match kind {
                b'#' => {
                    let Some(length) = self.rest().find("#}") else { return self.fault("a comment does not end") };
                    let minus = self.rest().as_bytes()[length - 1] == b'-' && length > 2;
                    let plus = self.rest().as_bytes()[length - 1] == b'+' && length > 2;
                    self.advance(length + 2);
                    self.after_tag(minus, plus, true);
                }
                b'%' => {
                    if self.raw(signed)? {
                        continue;
                    }
                    self.push(Token::BlockStart);
                    self.advance(2 + signed);
                    self.inside("%}")?;
                    self.push(Token::BlockEnd);
                    self.close(true);
                }
                _ => {
                    self.push(Token::ExpressionStart);
                    self.advance(2 + signed);
                    self.inside("}}")?;
                    self.push(Token::ExpressionEnd);
                    self.close(false);
                }
            }
        }
    }

    /// Text up to `end`; the lexer goes on at `next`.
    fn data(&mut self, end: usize, next: usize) {
        if end > 0 {
            let text = self.rest()[..end].to_string();
            self.push(Token::Data(text));
        }
        if next > 0 {
            self.line_starting = false;
        }
        self.advance(next);
    }

    /// Goes over the end of a tag, which is at hand.
    fn close(&mut self, block: bool) {
        let sign = self.rest().as_bytes()[0];
        let (minus, plus) = (sign == b'-', sign == b'+');
        self.advance(2 + usize::from(minus || plus));
        self.after_tag(minus, plus, block);
    }

    fn after_tag(&mut self, minus: bool, plus: bool, block: bool) {
        let rest = self.rest();
        let mut taken = 0;
        if minus {
            taken = rest.len() - rest.trim_start().len();
        } else if block && !plus && self.trim && rest.starts_with('\n') {
            taken = 1;
        }
        self.line_starting = rest[..taken].ends_with('\n');
        self.advance(taken);
    }

    /// `{% raw %}` up to its `{% endraw %}`.
    fn raw(&mut self, signed: usize) -> Result<bool, Fault> {
        let tag = |text: &str, name: &str| -> Option<(usize, bool, bool)> {
            let body = text.trim_start().strip_prefix(name)?.trim_start();
            let (minus, plus) = (body.starts_with('-'), body.starts_with('+'));
            let tail = body[usize::from(minus || plus)..].strip_prefix("%}")?;
            Some((text.len() - tail.len(), minus, plus))
        };
        let Some((length, minus, plus)) = tag(&self.rest()[2 + signed..], "raw") else { return Ok(false) };
        self.advance(2 + signed + length);
        self.after_tag(minus, plus, true);
        let rest = self.rest();
        for (at, _) in rest.match_indices("{%") {
            let sign = rest.as_bytes().get(at + 2).copied();
            let signed = usize::from(matches!(sign, Some(b'-' | b'+')));
            if let Some((length, minus, plus)) = tag(&rest[at + 2 + signed..], "endraw") {
                let end = if sign == Some(b'-') { rest[..at].trim_end().len() } else { at };
                self.data(end, at + 2 + signed + length);
                self.after_tag(minus, plus, true);
                return Ok(true);
            }
        }
        self.fault("a raw block does not end")
    }

    /// Tokens up to the end of the tag, which stays.
    fn inside(&mut self, end: &str) -> Result<(), Fault> {
        let mut open: Vec<&'static str> = Vec::new();
        loop {
            let rest = self.rest();
            let spaces = rest.len() - rest.trim_start().len();
            if spaces > 0 {
                self.advance(spaces);
                continue;
            }
            let Some(first) = rest.chars().next() else { return self.fault(format!("a tag has no {end:?}")) };
            let at_end = rest.starts_with(end)
                || (matches!(first, '-' | '+') && rest[1..].starts_with(end) && (first == '-' || end == "%}"));
            if open.is_empty() && at_end {
                return Ok(());
            }
            if first.is_alphanumeric() && !first.is_ascii_digit() || first == '_' {
                let length =
                    rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
                self.push(Token::Name(rest[..length].to_string()));
                self.advance(length);
            } else if first.is_ascii_digit() {
                self.number()?;
            } else if first == '"' || first == '\'' {
                self.text(first)?;
            } else if let Some(operator) = OPERATORS.iter().copied().find(|operator| rest.starts_with(*operator)) {
                match operator {
                    "(" => open.push(")"),
                    "[" => open.push("]"),
                    "{" => open.push("}"),
                    ")" | "]" | "}" => {
                        let expected = open.pop();
                        if expected != Some(operator) {
                            return self.fault(format!("unexpected {operator:?}"));
                        }
                    }
                    _ => {}
                }
                self.push(Token::Operator(operator));
                self.advance(operator.len());
            } else {
                return self.fault(format!("unexpected character {first:?}"));
            }
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let radix = match bytes.get(1) {
            Some(b'x' | b'X') if bytes[0] == b'0' => 16,
            Some(b'o' | b'O') if bytes[0] == b'0' => 8,
            Some(b'b' | b'B') if bytes[0] == b'0' => 2,
            _ => 10,
        };
        if radix != 10 {
            let length = 2 + rest[2..].bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
            let Ok(number) = i128::from_str_radix(&rest[2..length].replace('_', ""), radix) else {
                return self.fault(format!("{:?} is not a number", &rest[..length]));
            };
            self.push(Token::Integer(number));
            self.advance(length);
            return Ok(());
        }
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit() || **b == b'_').count();
        let mut length = digits(0);
        let mut float = false;
        if bytes.get(length) == Some(&b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit) {
            float = true;
            length += 1 + digits(length + 1);
        }
        if matches!(bytes.get(length), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            let exponent = digits((length + 1 + sign).min(bytes.len()));
            if exponent > 0 {
                float = true;
                length += 1 + sign + exponent;
            }
        }
        let text = rest[..length].replace('_', "");
        let token = if float { text.parse().ok().map(Token::Float) } else { text.parse().ok().map(Token::Integer) };
        let Some(token) = token else { return self.fault(format!("{text} is not a number that fits")) };
        self.push(token);
        self.advance(length);
        Ok(())
    }

    /// A string literal with Python's escapes.
    fn text(&mut self, quote: char) -> Result<(), Fault> {
        let mut text = String::new();
        let rest = self.rest();
        let mut characters = rest.char_indices().skip(1).peekable();
        while let Some((at, character)) = characters.next() {
            if character == quote {
                self.push(Token::Text(text));
                self.advance(at + 1);
                return Ok(());
            }
            if character != '\\' {
                text.push(character);
                continue;
            }
            let Some((at, escaped)) = characters.next() else { break };
            let digits = match escaped {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                '0'..='7' => {
                    let length = rest[at..].bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                    let code = u32::from_str_radix(&rest[at..at + length], 8).unwrap_or(0);
                    text.extend(char::from_u32(code));
                    if length > 1 {
                        characters.nth(length - 2);
                    }
                    continue;
                }
                _ => {
                    match escaped {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        'a' => text.push('\x07'),
                        'b' => text.push('\x08'),
                        'f' => text.push('\x0c'),
                        'v' => text.push('\x0b'),
                        '\\' | '\'' | '"' => text.push(escaped),
                        '\n' => {}
                        other => text.extend(['\\', other]),
                    }
                    continue;
                }
            };
            let code = rest.get(at + 1..at + 1 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
            let Some(decoded) = code.and_then(char::from_u32) else {
                return self.fault(format!("a string has a broken \\{escaped} escape"));
            };
            text.push(decoded);
            characters.nth(digits - 1);
        }
        self.fault("a string does not end")
    }
}
