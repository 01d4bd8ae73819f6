//! The grammar of expressions, in the precedence of Jinja.

use std::sync::Arc;

use super::ast::{Arguments, Expression, Postfix};
use super::lexer::Token;
use super::parser::{Parsed, Parser, DEEPEST};

impl Parser {
    /// An expression, or several with commas between them. `conditional`: `if … else` may follow at the top.
    pub fn tuple(&mut self, conditional: bool) -> Parsed<Expression> {
        let mut items = Vec::new();
        let mut tuple = false;
        loop {
            let ends = matches!(self.current(), Token::BlockEnd | Token::ExpressionEnd | Token::Operator(")"));
            if ends && tuple {
                break;
            }
            items.push(if conditional { self.expression()? } else { self.deeper(Self::disjunction)? });
            if !self.skip(",") {
                break;
            }
            tuple = true;
        }
        Ok(match items.pop() {
            Some(item) if !tuple => item,
            last => {
                items.extend(last);
                Expression::Tuple(items)
            }
        })
    }

    pub fn expression(&mut self) -> Parsed<Expression> {
        self.deeper(|parser| {
            let mut value = parser.disjunction()?;
            let mut rounds = 0;
            while parser.skip_name("if") {
                rounds += 1;
                if rounds > DEEPEST {
                    return parser.fault("too many conditions in a row");
                }
                let condition = parser.disjunction()?;
                let otherwise = if parser.skip_name("else") { Some(Box::new(parser.expression()?)) } else { None };
                value = Expression::Conditional(Box::new(condition), Box::new(value), otherwise);
            }
            Ok(value)
        })
    }

    pub fn disjunction(&mut self) -> Parsed<Expression> {
        let first = self.conjunction()?;
        if !self.is_name("or") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_name("or") {
            items.push(self.conjunction()?);
        }
        Ok(Expression::Or(items))
    }

    pub fn conjunction(&mut self) -> Parsed<Expression> {
        let first = self.negation()?;
        if !self.is_name("and") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_name("and") {
            items.push(self.negation()?);
        }
        Ok(Expression::And(items))
    }

    pub fn negation(&mut self) -> Parsed<Expression> {
        if self.skip_name("not") {
            return Ok(Expression::Not(Box::new(self.deeper(Self::negation)?)));
        }
        self.comparison()
    }

    pub fn comparison(&mut self) -> Parsed<Expression> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.current() {
                Token::Operator(operator @ ("==" | "!=" | "<" | "<=" | ">" | ">=")) => *operator,
                Token::Name(name) if name == "in" => "in",
                Token::Name(name) if name == "not" && matches!(self.ahead(), Token::Name(name) if name == "in") => {
                    self.next();
                    "not in"
                }
                _ => break,
            };
            self.next();
            rest.push((operator, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expression::Comparison(Box::new(first), rest) })
    }

    pub fn chain(
        &mut self,
        operators: &[&'static str],
        operand: impl Fn(&mut Self) -> Parsed<Expression>,
    ) -> Parsed<Expression> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some(operator) = operators.iter().copied().find(|operator| self.is_operator(operator)) {
            self.next();
            rest.push((operator, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expression::Arithmetic(Box::new(first), rest) })
    }

    pub fn sum(&mut self) -> Parsed<Expression> {
        self.chain(&["+", "-"], Self::concatenation)
    }

    pub fn concatenation(&mut self) -> Parsed<Expression> {
        let first = self.product()?;
        if !self.is_operator("~") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip("~") {
            items.push(self.product()?);
        }
        Ok(Expression::Concatenation(items))
    }

    pub fn product(&mut self) -> Parsed<Expression> {
        self.chain(&["*", "/", "//", "%"], Self::power)
    }

    pub fn power(&mut self) -> Parsed<Expression> {
        self.chain(&["**"], |parser| parser.unary(true))
    }

    pub fn unary(&mut self, filters: bool) -> Parsed<Expression> {
        let signed: Option<fn(Box<Expression>) -> Expression> = match self.current() {
            Token::Operator("-") => Some(Expression::Negative),
            Token::Operator("+") => Some(Expression::Positive),
            _ => None,
        };
        let (first, mut chain) = match signed {
            Some(signed) => {
                self.next();
                let operand = self.deeper(|parser| parser.unary(false))?;
                (signed(Box::new(operand)), Vec::new())
            }
            None => {
                let first = self.primary()?;
                (first, self.postfixes()?)
            }
        };
        if filters {
            self.filters(&mut chain)?;
        }
        Ok(if chain.is_empty() { first } else { Expression::Postfix(Box::new(first), chain) })
    }

    pub fn primary(&mut self) -> Parsed<Expression> {
        match self.current() {
            Token::Name(_) => {
                let name = self.name()?;
                Ok(match &*name {
                    "true" | "True" => Expression::Bool(true),
                    "false" | "False" => Expression::Bool(false),
                    "none" | "None" => Expression::None,
                    _ => Expression::Name(name),
                })
            }
            Token::Text(_) => {
                let mut text = String::new();
                while let Token::Text(part) = self.current() {
                    text.push_str(part);
                    self.next();
                }
                Ok(Expression::Text(text.into()))
            }
            Token::Integer(number) => {
                let number = *number;
                self.next();
                Ok(Expression::Integer(number))
            }
            Token::Float(number) => {
                let number = *number;
                self.next();
                Ok(Expression::Float(number))
            }
            Token::Operator("(") => {
                self.next();
                if self.skip(")") {
                    return Ok(Expression::Tuple(Vec::new()));
                }
                let inner = self.tuple(true)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Operator("[") => {
                self.next();
                let mut items = Vec::new();
                while !self.is_operator("]") {
                    if !items.is_empty() {
                        self.expect(",")?;
                        if self.is_operator("]") {
                            break;
                        }
                    }
                    items.push(self.expression()?);
                }
                self.expect("]")?;
                Ok(Expression::List(items))
            }
            Token::Operator("{") => {
                self.next();
                let mut items = Vec::new();
                while !self.is_operator("}") {
                    if !items.is_empty() {
                        self.expect(",")?;
                        if self.is_operator("}") {
                            break;
                        }
                    }
                    let key = self.expression()?;
                    self.expect(":")?;
                    items.push((key, self.expression()?));
                }
                self.expect("}")?;
                Ok(Expression::Dict(items))
            }
            _ => self.unexpected("an expression"),
        }
    }

    pub fn postfixes(&mut self) -> Parsed<Vec<Postfix>> {
        let mut chain = Vec::new();
        loop {
            match self.current() {
                Token::Operator(".") => {
                    self.next();
                    chain.push(match self.current() {
                        Token::Integer(index) => {
                            let index = *index;
                            self.next();
                            Postfix::Item(Expression::Integer(index))
                        }
                        _ => Postfix::Attribute(self.name()?),
                    });
                }
                Token::Operator("[") => {
                    self.next();
                    chain.push(self.subscript()?);
                }
                Token::Operator("(") => chain.push(Postfix::Call(self.arguments()?)),
                _ => return Ok(chain),
            }
        }
    }

    /// After the opening bracket.
    pub fn subscript(&mut self) -> Parsed<Postfix> {
        let mut parts: [Option<Expression>; 3] = [None, None, None];
        let mut colons = 0;
        loop {
            if self.skip("]") {
                break;
            }
            if self.skip(":") {
                colons += 1;
                if colons > 2 {
                    return self.fault("a slice has at most two colons");
                }
                continue;
            }
            if parts[colons].is_some() {
                return self.unexpected("\"]\"");
            }
            parts[colons] = Some(self.expression()?);
            if self.is_operator(",") {
                return self.fault("a subscript with a comma is not supported");
            }
        }
        if colons > 0 {
            return Ok(Postfix::Slice(Box::new(parts)));
        }
        match std::mem::take(&mut parts[0]) {
            Some(item) => Ok(Postfix::Item(item)),
            None => self.fault("an empty subscript"),
        }
    }

    pub fn arguments(&mut self) -> Parsed<Arguments> {
        self.expect("(")?;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.is_operator(")") {
            if !first {
                self.expect(",")?;
                if self.is_operator(")") {
                    break;
                }
            }
            first = false;
            if self.is_operator("*") || self.is_operator("**") {
                return self.fault("arguments with * are not supported");
            }
            if matches!(self.current(), Token::Name(_)) && *self.ahead() == Token::Operator("=") {
                let name = self.name()?;
                self.next();
                arguments.named.push((name, self.expression()?));
            } else if arguments.named.is_empty() {
                arguments.positional.push(self.expression()?);
            } else {
                return self.fault("a positional argument follows a named one");
            }
        }
        self.expect(")")?;
        Ok(arguments)
    }

    pub fn dotted_name(&mut self) -> Parsed<Arc<str>> {
        let mut name = self.name()?.to_string();
        while self.is_operator(".") && matches!(self.ahead(), Token::Name(_)) {
            self.next();
            name.push('.');
            name.push_str(&self.name()?);
        }
        Ok(name.into())
    }

    /// After the bar.
    pub fn filter(&mut self) -> Parsed<Postfix> {
        let name = self.dotted_name()?;
        let arguments = if self.is_operator("(") { self.arguments()? } else { Arguments::default() };
        Ok(Postfix::Filter(name, arguments))
    }

    pub fn filters(&mut self, chain: &mut Vec<Postfix>) -> Parsed<()> {
        loop {
            if self.skip("|") {
                chain.push(self.filter()?);
            } else if self.skip_name("is") {
                chain.push(self.test()?);
            } else if self.is_operator("(") {
                chain.push(Postfix::Call(self.arguments()?));
            } else {
                return Ok(());
            }
        }
    }

    /// After `is`.
    pub fn test(&mut self) -> Parsed<Postfix> {
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let mut arguments = Arguments::default();
        let begins = match self.current() {
            Token::Operator("(") => {
                arguments = self.arguments()?;
                false
            }
            Token::Name(name) if name == "is" => return self.fault("tests can not be chained with \"is\""),
            Token::Name(name) => !matches!(name.as_str(), "else" | "or" | "and"),
            Token::Text(_) | Token::Integer(_) | Token::Float(_) | Token::Operator("[" | "{") => true,
            _ => false,
        };
        if begins {
            let first = self.deeper(Self::primary)?;
            let chain = self.postfixes()?;
            arguments.positional.push(if chain.is_empty() {
                first
            } else {
                Expression::Postfix(Box::new(first), chain)
            });
        }
        Ok(Postfix::Test(name, arguments, negated))
    }
}
