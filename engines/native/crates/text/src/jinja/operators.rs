use std::cmp::Ordering;

use super::evaluate::{Evaluator, Outcome};
use super::value::Value;

impl Evaluator {
    pub fn binary(&self, operator: &str, left: &Value, right: &Value) -> Outcome<Value> {
        for operand in [left, right] {
            if let Value::Undefined(reason) = operand {
                return Err(reason.to_string().into());
            }
        }
        let refused =
            || format!("unsupported operand types for {operator}: '{}' and '{}'", left.kind(), right.kind()).into();
        let large = || format!("the result of {operator} is too large").into();
        if let (Some(left), Some(right)) = (left.integer(), right.integer()) {
            let zero = || "division by zero".into();
            return Ok(match operator {
                "+" => Value::Integer(left.checked_add(right).ok_or_else(large)?),
                "-" => Value::Integer(left.checked_sub(right).ok_or_else(large)?),
                "*" => Value::Integer(left.checked_mul(right).ok_or_else(large)?),
                "/" if right == 0 => return Err(zero()),
                "/" => Value::Float(left as f64 / right as f64),
                "//" | "%" if right == 0 => return Err(zero()),
                "//" => Value::Integer(floor_division(left, right).ok_or_else(large)?),
                "%" => Value::Integer(left - floor_division(left, right).ok_or_else(large)? * right),
                _ => match u32::try_from(right) {
                    Ok(power) => Value::Integer(left.checked_pow(power).ok_or_else(large)?),
                    Err(_) if right < 0 && left != 0 => Value::Float((left as f64).powf(right as f64)),
                    Err(_) => return Err(large()),
                },
            });
        }
        if let (Some(left), Some(right)) = (left.number(), right.number()) {
            return Ok(Value::Float(match operator {
                "+" => left + right,
                "-" => left - right,
                "*" => left * right,
                "/" | "//" | "%" if right == 0.0 => return Err("division by zero".into()),
                "/" => left / right,
                "//" => (left / right).floor(),
                "%" => left - right * (left / right).floor(),
                _ => left.powf(right),
            }));
        }
        match (operator, left, right) {
            ("+", Value::Text(left), Value::Text(right)) => {
                self.room(left.len() + right.len())?;
                self.text([&**left, &**right].concat())
            }
            ("+", Value::List(left), Value::List(right)) => {
                self.room((left.items.len() + right.items.len()) * 32)?;
                self.list(left.items.iter().chain(&right.items).cloned().collect())
            }
            ("+", Value::Tuple(left), Value::Tuple(right)) => {
                self.room((left.items.len() + right.items.len()) * 32)?;
                self.tuple(left.items.iter().chain(&right.items).cloned().collect())
            }
            ("*", Value::Text(text), count) | ("*", count, Value::Text(text)) => {
                let count = times(count.integer().ok_or_else(refused)?, text.len())?;
                self.room(text.len().saturating_mul(count))?;
                self.text(text.repeat(count))
            }
            ("*", Value::List(list), count) | ("*", count, Value::List(list)) => {
                let count = times(count.integer().ok_or_else(refused)?, list.items.len() * 32)?;
                self.room((list.items.len() * 32).saturating_mul(count))?;
                let total = list.items.len() * count;
                self.list(list.items.iter().cycle().take(total).cloned().collect())
            }
            ("%", Value::Text(format), _) => self.percent_format(format, right),
            _ => Err(refused()),
        }
    }

    pub fn equal(&self, left: &Value, right: &Value, depth: usize) -> Outcome<bool> {
        self.step()?;
        if depth > super::value::DEEPEST_VALUE {
            return Err("values are nested too deeply to be compared".into());
        }
        if let (Some(left), Some(right)) = (left.integer(), right.integer()) {
            return Ok(left == right);
        }
        if let (Some(left), Some(right)) = (left.number(), right.number()) {
            return Ok(left == right);
        }
        Ok(match (left, right) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::Text(left), Value::Text(right)) => {
                self.steps(left.len().min(right.len()) / 64)?;
                left == right
            }
            (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
                if left.items.len() != right.items.len() {
                    return Ok(false);
                }
                for (left, right) in left.items.iter().zip(&right.items) {
                    if !self.equal(left, right, depth + 1)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Dict(left), Value::Dict(right)) => {
                if left.entries().len() != right.entries().len() {
                    return Ok(false);
                }
                for (key, value) in left.entries() {
                    match right.get(key) {
                        Some(other) if self.equal(value, other, depth + 1)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Namespace(left), Value::Namespace(right)) => std::rc::Rc::ptr_eq(left, right),
            (Value::Macro(left), Value::Macro(right)) => std::rc::Rc::ptr_eq(left, right),
            _ => false,
        })
    }

    pub fn order(&self, operator: &str, left: &Value, right: &Value, depth: usize) -> Outcome<Option<Ordering>> {
        self.step()?;
        if let (Some(left), Some(right)) = (left.integer(), right.integer()) {
            return Ok(Some(left.cmp(&right)));
        }
        if let (Some(left), Some(right)) = (left.number(), right.number()) {
            return Ok(left.partial_cmp(&right));
        }
        match (left, right) {
            (Value::Undefined(reason), _) | (_, Value::Undefined(reason)) => Err(reason.to_string().into()),
            (Value::Text(left), Value::Text(right)) => {
                self.steps(left.len().min(right.len()) / 64)?;
                Ok(Some(left.cmp(right)))
            }
            (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right))
                if depth <= super::value::DEEPEST_VALUE =>
            {
                for (left, right) in left.items.iter().zip(&right.items) {
                    if !self.equal(left, right, depth + 1)? {
                        return self.order(operator, left, right, depth + 1);
                    }
                }
                Ok(Some(left.items.len().cmp(&right.items.len())))
            }
            _ => Err(format!("'{operator}' not supported between '{}' and '{}'", left.kind(), right.kind()).into()),
        }
    }

    pub fn compare(&self, operator: &str, left: &Value, right: &Value) -> Outcome<bool> {
        Ok(match operator {
            "==" => self.equal(left, right, 0)?,
            "!=" => !self.equal(left, right, 0)?,
            "in" => self.contains(right, left)?,
            "not in" => !self.contains(right, left)?,
            _ => {
                let Some(order) = self.order(operator, left, right, 0)? else { return Ok(false) };
                match operator {
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                }
            }
        })
    }

    pub fn contains(&self, whole: &Value, part: &Value) -> Outcome<bool> {
        match whole {
            Value::Undefined(_) => Ok(false),
            Value::Text(text) => match part {
                Value::Text(part) => {
                    self.steps(text.len() / 16)?;
                    Ok(text.contains(&**part))
                }
                Value::Undefined(reason) => Err(reason.to_string().into()),
                other => Err(format!("'in <string>' requires string as left operand, not {}", other.kind()).into()),
            },
            Value::List(items) | Value::Tuple(items) => {
                for item in &items.items {
                    if self.equal(item, part, 0)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Value::Dict(dict) => {
                if !part.is_hashable() {
                    return Err(format!("unhashable type: '{}'", part.kind()).into());
                }
                if !matches!(part, Value::Text(_)) {
                    self.steps(dict.entries().len())?;
                }
                Ok(dict.get(part).is_some())
            }
            other => Err(format!("argument of type '{}' is not iterable", other.kind()).into()),
        }
    }

    /// `format % value` of Python, of %s, %d, %i, %f, %x, %r and %% with width and precision.
    pub fn percent_format(&self, format: &str, value: &Value) -> Outcome<Value> {
        let single = [value.clone()];
        let mut values = match value {
            Value::Tuple(items) => items.items.iter(),
            _ => single.iter(),
        };
        let mut result = String::new();
        let mut characters = format.chars().peekable();
        while let Some(character) = characters.next() {
            if character != '%' {
                result.push(character);
                continue;
            }
            let mut specification = String::new();
            while let Some(part) = characters.next_if(|c| matches!(c, '0'..='9' | '.' | '-' | '+' | ' ')) {
                specification.push(part);
            }
            let kind = characters.next().ok_or("incomplete format")?;
            if kind == '%' {
                result.push('%');
                continue;
            }
            let value = values.next().ok_or("not enough arguments for format string")?;
            let (flags, precision) = match specification.split_once('.') {
                Some((flags, precision)) => (flags, Some(precision.parse::<usize>().map_err(|_| "a wrong format")?)),
                None => (&*specification, None),
            };
            if precision.is_some_and(|precision| precision > 100) {
                return Err("a wrong format".into());
            }
            let body = match kind {
                's' => self.string_of(value)?,
                'r' => self.repr_of(value)?,
                'd' | 'i' => (value.number().ok_or_else(|| format!("%d needs a number, not {}", value.kind()))?
                    as i128)
                    .to_string(),
                'x' => format!(
                    "{:x}",
                    value.integer().ok_or_else(|| format!("%x needs an integer, not {}", value.kind()))?
                ),
                'f' => {
                    let number = value.number().ok_or_else(|| format!("%f needs a number, not {}", value.kind()))?;
                    format!("{number:.*}", precision.unwrap_or(6))
                }
                other => return Err(format!("unsupported format character {other:?}").into()),
            };
            let width = flags.trim_start_matches(['-', '+', '0', ' ']).parse::<usize>().unwrap_or(0);
            if width > 10_000 {
                return Err("a format is too wide".into());
            }
            let missing = width.saturating_sub(body.chars().count());
            if flags.starts_with('-') {
                result.push_str(&body);
                result.extend(std::iter::repeat_n(' ', missing));
            } else if flags.starts_with('0') && kind != 's' && kind != 'r' {
                let (sign, digits) = body.strip_prefix('-').map_or(("", &*body), |digits| ("-", digits));
                result.push_str(sign);
                result.extend(std::iter::repeat_n('0', missing));
                result.push_str(digits);
            } else {
                result.extend(std::iter::repeat_n(' ', missing));
                result.push_str(&body);
            }
            self.room(result.len())?;
        }
        if matches!(value, Value::Tuple(_)) && values.next().is_some() {
            return Err("not all arguments converted during string formatting".into());
        }
        self.text(result)
    }
}

fn times(count: i128, bytes: usize) -> Outcome<usize> {
    if count <= 0 || bytes == 0 {
        return Ok(0);
    }
    usize::try_from(count).map_err(|_| "the result of * is too large".into())
}

pub(super) fn floor_division(left: i128, right: i128) -> Option<i128> {
    let quotient = left.checked_div(right)?;
    Some(if left % right != 0 && (left < 0) != (right < 0) { quotient - 1 } else { quotient })
}
