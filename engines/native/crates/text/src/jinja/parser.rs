use std::sync::Arc;

use super::ast::{Expression, For, Kind, Macro, Postfix, Statement, Target};
use super::lexer::{Placed, Token};
use super::Fault;

/// Of a macro.
const MOST_PARAMETERS: usize = 256;

/// Expressions within expressions, blocks within blocks. Templates of published models reach about 12.
pub(super) const DEEPEST: usize = 48;

pub(super) type Parsed<T> = Result<T, Fault>;

pub(super) struct Parser {
    pub tokens: Vec<Placed>,
    pub position: usize,
    pub depth: usize,
    pub loops: usize,
}

pub(super) fn parse(tokens: Vec<Placed>) -> Parsed<Vec<Statement>> {
    let mut parser = Parser { tokens, position: 0, depth: 0, loops: 0 };
    let (body, end) = parser.body(&[])?;
    debug_assert!(end.is_empty());
    Ok(body)
}

impl Parser {
    pub fn current(&self) -> &Token {
        &self.tokens[self.position].token
    }

    pub fn ahead(&self) -> &Token {
        &self.tokens[(self.position + 1).min(self.tokens.len() - 1)].token
    }

    pub fn line(&self) -> usize {
        self.tokens[self.position].line
    }

    pub fn next(&mut self) -> Token {
        let token = self.tokens[self.position].token.clone();
        self.position = (self.position + 1).min(self.tokens.len() - 1);
        token
    }

    pub fn fault<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(Fault { message: message.into(), line: self.line() })
    }

    pub fn unexpected<T>(&self, wanted: &str) -> Parsed<T> {
        let seen = match self.current() {
            Token::Name(name) => format!("{name:?}"),
            Token::Operator(operator) => format!("{operator:?}"),
            Token::Text(text) => format!("the string {text:?}"),
            Token::Integer(number) => number.to_string(),
            Token::Float(number) => number.to_string(),
            Token::End => "the end of the template".to_string(),
            _ => "the end of the tag".to_string(),
        };
        self.fault(format!("expected {wanted}, found {seen}"))
    }

    pub fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEEPEST {
            return self.fault(format!("it is nested deeper than {DEEPEST} levels"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    pub fn is_name(&self, name: &str) -> bool {
        matches!(self.current(), Token::Name(seen) if seen == name)
    }

    pub fn is_operator(&self, operator: &str) -> bool {
        matches!(self.current(), Token::Operator(seen) if *seen == operator)
    }

    pub fn skip_name(&mut self, name: &str) -> bool {
        let there = self.is_name(name);
        if there {
            self.next();
        }
        there
    }

    pub fn skip(&mut self, operator: &str) -> bool {
        let there = self.is_operator(operator);
        if there {
            self.next();
        }
        there
    }

    pub fn expect(&mut self, operator: &str) -> Parsed<()> {
        if self.skip(operator) {
            Ok(())
        } else {
            self.unexpected(&format!("{operator:?}"))
        }
    }

    pub fn name(&mut self) -> Parsed<Arc<str>> {
        match self.current() {
            Token::Name(name) => {
                let name = name.as_str().into();
                self.next();
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    pub fn block_end(&mut self) -> Parsed<()> {
        match self.current() {
            Token::BlockEnd => {
                self.next();
                Ok(())
            }
            _ => self.unexpected("the end of the block"),
        }
    }

    /// Statements up to a block that begins with one of `ends`, whose name is returned; its name is consumed.
    pub fn body(&mut self, ends: &[&'static str]) -> Parsed<(Vec<Statement>, &'static str)> {
        let mut statements = Vec::new();
        loop {
            let line = self.line();
            match self.current() {
                Token::End if ends.is_empty() => return Ok((statements, "")),
                Token::End => return self.fault(format!("the template ends where {} was expected", ends.join(" or "))),
                Token::Data(_) => {
                    if let Token::Data(text) = self.next() {
                        statements.push(Statement { line, kind: Kind::Data(text) });
                    }
                }
                Token::ExpressionStart => {
                    self.next();
                    let expression = self.tuple(true)?;
                    if *self.current() != Token::ExpressionEnd {
                        return self.unexpected("the end of the expression");
                    }
                    self.next();
                    statements.push(Statement { line, kind: Kind::Print(expression) });
                }
                _ => {
                    self.next();
                    let name = self.name()?;
                    if let Some(end) = ends.iter().find(|end| **end == &*name) {
                        return Ok((statements, end));
                    }
                    let kind = self.deeper(|parser| parser.statement(&name))?;
                    statements.push(Statement { line, kind });
                }
            }
        }
    }

    /// A body that ends in one kind of block.
    pub fn body_until(&mut self, end: &'static str) -> Parsed<Vec<Statement>> {
        self.block_end()?;
        let (body, _) = self.body(&[end])?;
        if end == "endblock" && matches!(self.current(), Token::Name(_)) {
            self.next();
        }
        self.block_end()?;
        Ok(body)
    }

    pub fn statement(&mut self, name: &str) -> Parsed<Kind> {
        match name {
            "if" => self.condition(),
            "for" => self.repetition(),
            "set" => self.assignment(),
            "with" => {
                let mut names = Vec::new();
                while *self.current() != Token::BlockEnd {
                    if !names.is_empty() {
                        self.expect(",")?;
                    }
                    let target = self.target(false)?;
                    self.expect("=")?;
                    names.push((target, self.expression()?));
                }
                Ok(Kind::With(names, self.body_until("endwith")?))
            }
            "macro" => {
                let name = self.name()?;
                let parameters = self.parameters()?;
                Ok(Kind::Macro(Arc::new(self.macro_body(name, parameters, "endmacro")?)))
            }
            "call" => {
                let parameters = if self.is_operator("(") { self.parameters()? } else { Vec::new() };
                let call = self.expression()?;
                if !matches!(&call, Expression::Postfix(_, chain) if matches!(chain.last(), Some(Postfix::Call(_)))) {
                    return self.fault("a call block needs a call");
                }
                Ok(Kind::CallBlock(Arc::new(self.macro_body("caller".into(), parameters, "endcall")?), call))
            }
            "filter" => {
                let mut chain = vec![self.filter()?];
                while self.skip("|") {
                    chain.push(self.filter()?);
                }
                Ok(Kind::FilterBlock(chain, self.body_until("endfilter")?))
            }
            // Marks text that is trained on; rendering does not change.
            "generation" => Ok(Kind::Scope(self.body_until("endgeneration")?)),
            "block" => {
                self.name()?;
                Ok(Kind::Scope(self.body_until("endblock")?))
            }
            "print" => {
                let mut parts = vec![self.expression()?];
                while self.skip(",") {
                    parts.push(self.expression()?);
                }
                self.block_end()?;
                Ok(Kind::Print(Expression::Concatenation(parts)))
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    return self.fault(format!("{name:?} outside of a loop"));
                }
                self.block_end()?;
                Ok(if name == "break" { Kind::Break } else { Kind::Continue })
            }
            "include" | "import" | "from" | "extends" => {
                self.fault(format!("{name:?} asks for another template, and a chat template stands alone"))
            }
            other => self.fault(format!("{other:?} is not a known block")),
        }
    }

    pub fn macro_body(
        &mut self,
        name: Arc<str>,
        parameters: Vec<(Arc<str>, Option<Expression>)>,
        end: &'static str,
    ) -> Parsed<Macro> {
        let start = self.position;
        let loops = std::mem::take(&mut self.loops);
        let body = self.body_until(end)?;
        self.loops = loops;
        let uses = |wanted: &str| {
            self.tokens[start..self.position]
                .iter()
                .any(|placed| matches!(&placed.token, Token::Name(n) if n == wanted))
        };
        Ok(Macro { name, parameters, takes_varargs: uses("varargs"), takes_kwargs: uses("kwargs"), body })
    }

    pub fn condition(&mut self) -> Parsed<Kind> {
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let condition = self.tuple(false)?;
            self.block_end()?;
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            branches.push((condition, body));
            match end {
                "elif" => continue,
                "else" => otherwise = self.body_until("endif")?,
                _ => self.block_end()?,
            }
            return Ok(Kind::If(branches, otherwise));
        }
    }

    pub fn repetition(&mut self) -> Parsed<Kind> {
        let target = self.target(false)?;
        if !self.skip_name("in") {
            return self.unexpected("\"in\"");
        }
        let over = self.tuple(false)?;
        let filter = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.block_end()?;
        self.loops += 1;
        let (body, end) = self.body(&["else", "endfor"])?;
        self.loops -= 1;
        let otherwise = if end == "else" {
            self.body_until("endfor")?
        } else {
            self.block_end()?;
            Vec::new()
        };
        Ok(Kind::For(Arc::new(For { target, over, filter, recursive, body, otherwise })))
    }

    pub fn assignment(&mut self) -> Parsed<Kind> {
        let target = self.target(true)?;
        if self.skip("=") {
            let value = self.tuple(true)?;
            self.block_end()?;
            return Ok(Kind::Set(target, value));
        }
        let mut chain = Vec::new();
        while self.skip("|") {
            chain.push(self.filter()?);
        }
        Ok(Kind::SetBlock(target, chain, self.body_until("endset")?))
    }

    pub fn target(&mut self, attribute: bool) -> Parsed<Target> {
        let mut targets = vec![self.single_target(attribute)?];
        let mut tuple = false;
        while self.skip(",") {
            tuple = true;
            if !matches!(self.current(), Token::Name(_) | Token::Operator("(")) || self.is_name("in") {
                break;
            }
            targets.push(self.single_target(attribute)?);
        }
        Ok(match targets.pop() {
            Some(target) if !tuple => target,
            last => {
                targets.extend(last);
                Target::Tuple(targets)
            }
        })
    }

    pub fn single_target(&mut self, attribute: bool) -> Parsed<Target> {
        if self.skip("(") {
            let target = self.deeper(|parser| parser.target(attribute))?;
            self.expect(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
            return self.fault(format!("can not assign to {name}"));
        }
        if attribute && self.skip(".") {
            return Ok(Target::Attribute(name, self.name()?));
        }
        Ok(Target::Name(name))
    }

    pub fn parameters(&mut self) -> Parsed<Vec<(Arc<str>, Option<Expression>)>> {
        self.expect("(")?;
        let mut parameters: Vec<(Arc<str>, Option<Expression>)> = Vec::new();
        let mut defaulted = false;
        while !self.is_operator(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
            }
            let name = self.name()?;
            let default = if self.skip("=") { Some(self.expression()?) } else { None };
            if default.is_none() && defaulted {
                return self.fault("a parameter without default follows one with a default");
            }
            defaulted = default.is_some();
            if parameters.len() == MOST_PARAMETERS {
                return self.fault("a macro has too many parameters");
            }
            parameters.push((name, default));
        }
        self.expect(")")?;
        Ok(parameters)
    }
}
