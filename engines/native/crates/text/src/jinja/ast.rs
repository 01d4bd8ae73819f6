use std::sync::Arc;

/// Chains (of operators, attributes, filters) are lists, so that nesting is bounded by the parser's own recursion.
pub(super) enum Expression {
    Name(Arc<str>),
    None,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(Arc<str>),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    Dict(Vec<(Expression, Expression)>),
    Not(Box<Expression>),
    Negative(Box<Expression>),
    Positive(Box<Expression>),
    /// First, then operators of one precedence from left to right.
    Arithmetic(Box<Expression>, Vec<(&'static str, Expression)>),
    Concatenation(Vec<Expression>),
    /// All have to hold, as in Python.
    Comparison(Box<Expression>, Vec<(&'static str, Expression)>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    /// Condition, then, else.
    Conditional(Box<Expression>, Box<Expression>, Option<Box<Expression>>),
    Postfix(Box<Expression>, Vec<Postfix>),
}

pub(super) enum Postfix {
    Attribute(Arc<str>),
    Item(Expression),
    /// Start, stop and step.
    Slice(Box<[Option<Expression>; 3]>),
    Call(Arguments),
    Filter(Arc<str>, Arguments),
    /// Name, arguments, whether negated.
    Test(Arc<str>, Arguments, bool),
}

#[derive(Default)]
pub(super) struct Arguments {
    pub positional: Vec<Expression>,
    pub named: Vec<(Arc<str>, Expression)>,
}

pub(super) enum Target {
    Name(Arc<str>),
    Attribute(Arc<str>, Arc<str>),
    Tuple(Vec<Target>),
}

pub(super) struct Statement {
    pub line: usize,
    pub kind: Kind,
}

pub(super) enum Kind {
    Data(String),
    Print(Expression),
    If(Vec<(Expression, Vec<Statement>)>, Vec<Statement>),
    For(Arc<For>),
    Set(Target, Expression),
    /// Target, filters, body.
    SetBlock(Target, Vec<Postfix>, Vec<Statement>),
    With(Vec<(Target, Expression)>, Vec<Statement>),
    /// A body with names of its own.
    Scope(Vec<Statement>),
    Macro(Arc<Macro>),
    /// The caller, the expression that calls, which ends in a call.
    CallBlock(Arc<Macro>, Expression),
    FilterBlock(Vec<Postfix>, Vec<Statement>),
    Break,
    Continue,
}

pub(super) struct For {
    pub target: Target,
    pub over: Expression,
    pub filter: Option<Expression>,
    pub recursive: bool,
    pub body: Vec<Statement>,
    pub otherwise: Vec<Statement>,
}

pub(super) struct Macro {
    pub name: Arc<str>,
    /// Names with their defaults.
    pub parameters: Vec<(Arc<str>, Option<Expression>)>,
    pub body: Vec<Statement>,
    /// Whether the body asks for further arguments, which are refused otherwise.
    pub takes_varargs: bool,
    pub takes_kwargs: bool,
}
