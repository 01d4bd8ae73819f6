use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::ast::{Expression, For, Kind, Macro, Postfix, Statement, Target};
use super::evaluate::{Evaluator, Failure, Outcome, Scope};
use super::value::{Closure, Dict, Items, Loop, Value};
use super::{Fault, Limits};

#[derive(PartialEq)]
pub(super) enum Flow {
    On,
    Break,
    Continue,
}

pub(super) fn render(body: &[Statement], variables: &Map<String, Json>, limits: Limits) -> Result<String, Fault> {
    let evaluator = Evaluator {
        steps: Cell::new(limits.steps),
        bytes: Rc::new(Cell::new(limits.bytes)),
        depth: Cell::new(0),
        line: Cell::new(1),
        scopes: RefCell::default(),
        namespaces: RefCell::default(),
    };
    let names = variables.iter().map(|(name, value)| (Arc::from(name.as_str()), value_of(value))).collect();
    let scope = Rc::new(Scope { names: RefCell::new(names), parent: None });
    let mut output = String::new();
    match evaluator.run(body, &scope, &mut output) {
        Ok(_) => Ok(output),
        Err(Failure(message)) => Err(Fault { message, line: evaluator.line.get() }),
    }
}

/// JSON as a template sees it.
fn value_of(json: &Json) -> Value {
    let list = |items: Vec<Value>| {
        let depth = items.iter().map(Value::depth).max().unwrap_or(0) + 1;
        Value::List(Rc::new(Items { items, depth }))
    };
    match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Integer(value.into()),
            (_, Some(value)) => Value::Integer(value.into()),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::text(text),
        Json::Array(items) => list(items.iter().map(value_of).collect()),
        Json::Object(fields) => {
            let mut dict = Dict::default();
            for (name, value) in fields {
                dict.insert(Value::text(name), value_of(value));
            }
            Value::Dict(Rc::new(dict))
        }
    }
}

impl Evaluator {
    pub fn run(&self, body: &[Statement], scope: &Rc<Scope>, output: &mut String) -> Outcome<Flow> {
        for statement in body {
            self.step()?;
            self.line.set(statement.line);
            let flow = match &statement.kind {
                Kind::Data(text) => {
                    self.emit(output, text)?;
                    Flow::On
                }
                Kind::Print(expression) => {
                    match self.evaluate(expression, scope)? {
                        Value::Text(text) => self.emit(output, &text)?,
                        value => {
                            let text = self.string_of(&value)?;
                            self.emit(output, &text)?;
                        }
                    }
                    Flow::On
                }
                Kind::Break => Flow::Break,
                Kind::Continue => Flow::Continue,
                _ => self.deeper(|| self.block(statement, scope, output))?,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    pub fn block(&self, statement: &Statement, scope: &Rc<Scope>, output: &mut String) -> Outcome<Flow> {
        match &statement.kind {
            Kind::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.evaluate(condition, scope)?.is_true() {
                        return self.run(body, scope, output);
                    }
                }
                return self.run(otherwise, scope, output);
            }
            Kind::For(repetition) => {
                let over = self.evaluate(&repetition.over, scope)?;
                return self.repeat(repetition, &over, scope, 0, output).map(|()| Flow::On);
            }
            Kind::Set(target, value) => {
                let value = self.evaluate(value, scope)?;
                self.assign(target, value, scope, scope)?;
            }
            Kind::SetBlock(target, filters, body) => {
                let text = self.captured(body, scope)?;
                let value = self.postfix(text, filters, scope)?;
                self.assign(target, value, scope, scope)?;
            }
            Kind::With(names, body) => {
                let inner = Scope::inner(scope);
                for (target, value) in names {
                    let value = self.evaluate(value, scope)?;
                    self.assign(target, value, &inner, scope)?;
                }
                return self.run(body, &inner, output);
            }
            Kind::Scope(body) => return self.run(body, &Scope::inner(scope), output),
            Kind::Macro(definition) => {
                let closure = self.closure(definition, scope)?;
                scope.set(&definition.name, closure);
            }
            Kind::CallBlock(caller, call) => {
                let Expression::Postfix(base, chain) = call else { return Err("a call block needs a call".into()) };
                let Some((Postfix::Call(arguments), before)) = chain.split_last() else {
                    return Err("a call block needs a call".into());
                };
                let value = self.evaluate(base, scope)?;
                let function = self.postfix(value, before, scope)?;
                let mut given = self.given(arguments, scope)?;
                given.named.push(("caller".into(), self.closure(caller, scope)?));
                let value = self.call(&function, given)?;
                let text = self.string_of(&value)?;
                self.emit(output, &text)?;
            }
            Kind::FilterBlock(filters, body) => {
                let text = self.captured(body, &Scope::inner(scope))?;
                let value = self.postfix(text, filters, scope)?;
                let text = self.string_of(&value)?;
                self.emit(output, &text)?;
            }
            Kind::Data(_) | Kind::Print(_) | Kind::Break | Kind::Continue => {}
        }
        Ok(Flow::On)
    }

    pub fn captured(&self, body: &[Statement], scope: &Rc<Scope>) -> Outcome<Value> {
        let mut text = String::new();
        self.run(body, scope, &mut text)?;
        self.text(text)
    }

    pub fn closure(&self, definition: &Arc<Macro>, scope: &Rc<Scope>) -> Outcome<Value> {
        self.charge(64)?;
        self.scopes.borrow_mut().push(Rc::clone(scope));
        Ok(Value::Macro(Rc::new(Closure { definition: Arc::clone(definition), scope: Rc::clone(scope) })))
    }

    pub fn assign(&self, target: &Target, value: Value, scope: &Rc<Scope>, outer: &Rc<Scope>) -> Outcome<()> {
        self.step()?;
        match target {
            Target::Name(name) => {
                self.charge(64)?;
                scope.set(name, value);
                Ok(())
            }
            Target::Attribute(name, attribute) => match outer.get(name) {
                Some(Value::Namespace(names)) => {
                    if attribute.starts_with('_') {
                        return Err(format!("a namespace can not have the attribute '{attribute}'").into());
                    }
                    self.charge(64)?;
                    names.borrow_mut().insert(Value::Text(attribute.into()), value);
                    Ok(())
                }
                _ => Err("cannot assign attribute on non-namespace object".into()),
            },
            Target::Tuple(targets) => {
                let items = self.iterate(&value)?;
                if items.len() != targets.len() {
                    return Err(format!("{} values for {} names", items.len(), targets.len()).into());
                }
                targets.iter().zip(items).try_for_each(|(target, item)| self.assign(target, item, scope, outer))
            }
        }
    }

    /// A loop; also what `loop(…)` does, one level deeper.
    pub fn repeat(
        &self,
        repetition: &Arc<For>,
        over: &Value,
        scope: &Rc<Scope>,
        level: usize,
        output: &mut String,
    ) -> Outcome<()> {
        let mut items = self.iterate(over)?;
        if let Some(filter) = &repetition.filter {
            let mut kept = Vec::new();
            for item in items {
                let inner = Scope::inner(scope);
                self.assign(&repetition.target, item.clone(), &inner, scope)?;
                if self.evaluate(filter, &inner)?.is_true() {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            self.run(&repetition.otherwise, scope, output)?;
            return Ok(());
        }
        let items = self.items(items)?;
        let again = repetition.recursive.then(|| (Arc::clone(repetition), Rc::clone(scope)));
        let state =
            Rc::new(Loop { items: Rc::clone(&items), index: Cell::new(0), level, changed: RefCell::default(), again });
        let name: Arc<str> = "loop".into();
        for (index, item) in items.items.iter().enumerate() {
            self.step()?;
            state.index.set(index);
            let inner = Scope::inner(scope);
            inner.set(&name, Value::Loop(Rc::clone(&state)));
            self.assign(&repetition.target, item.clone(), &inner, scope)?;
            if self.run(&repetition.body, &inner, output)? == Flow::Break {
                break;
            }
        }
        // What it remembers may hold the loop itself.
        state.changed.take();
        Ok(())
    }
}
