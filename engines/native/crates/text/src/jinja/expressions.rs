use std::rc::Rc;
use std::sync::Arc;

use super::ast::{Arguments, Expression, Postfix};
use super::evaluate::{Evaluator, Given, Outcome, Scope};
use super::value::{Closure, Dict, Text, Value};

impl Evaluator {
    pub fn given(&self, arguments: &Arguments, scope: &Rc<Scope>) -> Outcome<Given> {
        let mut given = Given::default();
        for argument in &arguments.positional {
            given.positional.push(self.evaluate(argument, scope)?);
        }
        for (name, argument) in &arguments.named {
            given.named.push((Arc::clone(name), self.evaluate(argument, scope)?));
        }
        Ok(given)
    }

    pub fn call(&self, function: &Value, given: Given) -> Outcome<Value> {
        self.step()?;
        match function {
            Value::Function(name) => self.call_function(name, given),
            Value::Method(method) => self.call_method(&method.0, &method.1, given),
            Value::Macro(closure) => self.deeper(|| self.call_macro(closure, given)),
            Value::Loop(state) => {
                let Some((repetition, scope)) = &state.again else { return Err("the loop is not recursive".into()) };
                let [over] = given.bind("loop", ["iterable"])?;
                let over = over.ok_or("loop needs something to loop over")?;
                let mut text = String::new();
                self.deeper(|| self.repeat(repetition, &over, scope, state.level + 1, &mut text))?;
                self.text(text)
            }
            Value::Joiner(joiner) => {
                let used = joiner.1.replace(true);
                Ok(if used { Value::Text(joiner.0.clone()) } else { Value::text("") })
            }
            Value::Undefined(reason) => Err(reason.to_string().into()),
            other => Err(format!("'{}' object is not callable", other.kind()).into()),
        }
    }

    pub fn call_macro(&self, closure: &Closure, given: Given) -> Outcome<Value> {
        let definition = &closure.definition;
        let scope = Scope::inner(&closure.scope);
        let mut positional = given.positional.into_iter();
        let mut named = given.named;
        for (name, default) in &definition.parameters {
            let by_name = named.iter().position(|(given, _)| given == name).map(|index| named.swap_remove(index).1);
            let value = match (positional.next(), by_name) {
                (Some(_), Some(_)) => return Err(format!("macro '{}' got '{name}' twice", definition.name).into()),
                (Some(value), None) | (None, Some(value)) => value,
                (None, None) => match default {
                    Some(default) => self.evaluate(default, &scope)?,
                    None => Value::undefined(format!("parameter '{name}' was not provided")),
                },
            };
            scope.set(name, value);
        }
        if let Some(index) = named.iter().position(|(name, _)| &**name == "caller") {
            let (name, caller) = named.swap_remove(index);
            scope.set(&name, caller);
        }
        let rest: Vec<Value> = positional.collect();
        if !rest.is_empty() && !definition.takes_varargs {
            let most = definition.parameters.len();
            return Err(format!("macro '{}' takes not more than {most} arguments", definition.name).into());
        }
        if !definition.takes_kwargs {
            if let Some((name, _)) = named.first() {
                return Err(format!("macro '{}' takes no argument '{name}'", definition.name).into());
            }
        }
        if definition.takes_varargs {
            scope.set(&"varargs".into(), self.tuple(rest)?);
        }
        if definition.takes_kwargs {
            let mut dict = Dict::default();
            for (name, value) in named {
                dict.insert(Value::Text(Text::from(&name)), value);
            }
            scope.set(&"kwargs".into(), self.dict(dict)?);
        }
        self.captured(&definition.body, &scope)
    }

    pub fn evaluate(&self, expression: &Expression, scope: &Rc<Scope>) -> Outcome<Value> {
        self.step()?;
        // Leaves need no level of their own.
        Ok(match expression {
            Expression::Name(name) => match scope.get(name) {
                Some(value) => value,
                None => match super::functions::known(name) {
                    Some(function) => Value::Function(function),
                    None => Value::undefined(format!("'{name}' is undefined")),
                },
            },
            Expression::None => Value::None,
            Expression::Bool(value) => Value::Bool(*value),
            Expression::Integer(number) => Value::Integer(*number),
            Expression::Float(number) => Value::Float(*number),
            Expression::Text(text) => Value::Text(text.into()),
            _ => return self.deeper(|| self.compound(expression, scope)),
        })
    }

    pub fn compound(&self, expression: &Expression, scope: &Rc<Scope>) -> Outcome<Value> {
        let all =
            |items: &[Expression]| items.iter().map(|item| self.evaluate(item, scope)).collect::<Outcome<Vec<_>>>();
        match expression {
            Expression::List(items) => self.list(all(items)?),
            Expression::Tuple(items) => self.tuple(all(items)?),
            Expression::Dict(items) => {
                let mut dict = Dict::default();
                for (key, value) in items {
                    let key = self.evaluate(key, scope)?;
                    if !key.is_hashable() {
                        return Err(format!("unhashable type: '{}'", key.kind()).into());
                    }
                    if !matches!(key, Value::Text(_)) {
                        self.steps(dict.entries().len())?;
                    }
                    dict.insert(key, self.evaluate(value, scope)?);
                }
                self.dict(dict)
            }
            Expression::Not(inner) => Ok(Value::Bool(!self.evaluate(inner, scope)?.is_true())),
            Expression::Negative(inner) | Expression::Positive(inner) => {
                let negative = matches!(expression, Expression::Negative(_));
                match self.evaluate(inner, scope)? {
                    Value::Float(number) => Ok(Value::Float(if negative { -number } else { number })),
                    Value::Undefined(reason) => Err(reason.to_string().into()),
                    other => {
                        let number = other.integer();
                        let number =
                            number.ok_or_else(|| format!("bad operand type for a sign: '{}'", other.kind()))?;
                        let negated = number.checked_neg().ok_or("a number is too large")?;
                        Ok(Value::Integer(if negative { negated } else { number }))
                    }
                }
            }
            Expression::Arithmetic(first, rest) => {
                let mut value = self.evaluate(first, scope)?;
                for (operator, operand) in rest {
                    let operand = self.evaluate(operand, scope)?;
                    value = self.binary(operator, &value, &operand)?;
                }
                Ok(value)
            }
            Expression::Concatenation(items) => {
                let mut text = String::new();
                for item in items {
                    match self.evaluate(item, scope)? {
                        Value::Text(item) => {
                            self.room(text.len() + item.len())?;
                            text.push_str(&item);
                        }
                        item => text.push_str(&self.string_of(&item)?),
                    }
                }
                self.text(text)
            }
            Expression::Comparison(first, rest) => {
                let mut left = self.evaluate(first, scope)?;
                for (operator, operand) in rest {
                    let right = self.evaluate(operand, scope)?;
                    if !self.compare(operator, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expression::And(items) | Expression::Or(items) => {
                let stop = matches!(expression, Expression::Or(_));
                let mut value = Value::None;
                for item in items {
                    value = self.evaluate(item, scope)?;
                    if value.is_true() == stop {
                        break;
                    }
                }
                Ok(value)
            }
            Expression::Conditional(condition, then, otherwise) => {
                if self.evaluate(condition, scope)?.is_true() {
                    return self.evaluate(then, scope);
                }
                match otherwise {
                    Some(otherwise) => self.evaluate(otherwise, scope),
                    None => Ok(Value::undefined("the inline if-expression evaluated to false and has no else")),
                }
            }
            Expression::Postfix(first, chain) => {
                let value = self.evaluate(first, scope)?;
                self.postfix(value, chain, scope)
            }
            _ => Ok(Value::None),
        }
    }

    pub fn postfix(&self, mut value: Value, chain: &[Postfix], scope: &Rc<Scope>) -> Outcome<Value> {
        for part in chain {
            self.step()?;
            value = match part {
                Postfix::Attribute(name) => self.attribute(&value, &name.into())?,
                Postfix::Item(key) => {
                    let key = self.evaluate(key, scope)?;
                    self.item(&value, &key)?
                }
                Postfix::Slice(parts) => {
                    let mut bounds = [None, None, None];
                    for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                        if let Some(part) = part {
                            *bound = match self.evaluate(part, scope)? {
                                Value::None => None,
                                other => {
                                    let index = other.integer();
                                    Some(index.ok_or_else(|| format!("a slice index is of type {}", other.kind()))?)
                                }
                            };
                        }
                    }
                    self.slice(&value, bounds)?
                }
                Postfix::Call(arguments) => {
                    let given = self.given(arguments, scope)?;
                    self.call(&value, given)?
                }
                Postfix::Filter(name, arguments) => {
                    let given = self.given(arguments, scope)?;
                    self.filter(name, &value, given)?
                }
                Postfix::Test(name, arguments, negated) => {
                    let given = self.given(arguments, scope)?;
                    Value::Bool(self.test(name, &value, given)? != *negated)
                }
            };
        }
        Ok(value)
    }
}
