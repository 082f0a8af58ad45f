//! What code reaches without naming it: `services.replica.view()` uses `Replica`.
//!
//! The types of values are followed from parameters and `self` through fields, methods, functions, patterns and closures.

use std::collections::BTreeMap;

use proc_macro2::Span;
use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprClosure, FnArg, Item, Member, Pat, Stmt};

use super::names::{Names, written};
use super::source::expressions;
use super::types::{Body, Code, Declarations, Scope, Types};
use super::uses::{How, Use};

/// The fields and methods that code touches, by their paths, and the types of others that it touches.
pub(crate) fn reached(body: &Body<'_>, declarations: &Declarations<'_>, names: &Names) -> Vec<Use> {
    let mut reach = Reach { declarations, names, scope: &body.scope, locals: vec![BTreeMap::new()], found: Vec::new() };
    for input in body.signature.iter().flat_map(|signature| &signature.inputs) {
        match input {
            FnArg::Receiver(_) => reach.bind_name("self", body.scope.own.iter().cloned().collect()),
            FnArg::Typed(input) => reach.bind(&input.pat, &body.scope.types(names, &input.ty)),
        }
    }
    match body.code {
        Code::Block(block) => reach.block(block),
        Code::Value(value) => reach.value(value),
    };
    reach.found
}

struct Reach<'a> {
    declarations: &'a Declarations<'a>,
    names: &'a Names,
    scope: &'a Scope,
    /// The types of the variables, the innermost block last.
    locals: Vec<BTreeMap<String, Types>>,
    found: Vec<Use>,
}

impl Reach<'_> {
    /// What an expression may be. Everything in it is read once.
    fn value(&mut self, expression: &Expr) -> Types {
        match expression {
            Expr::Path(inner) => self.path(&inner.path),
            Expr::Field(inner) => {
                let base = self.value(&inner.base);
                let (name, span) = named(&inner.member);
                self.touch(&base, &name, span).map_or(base, |(types, _)| types)
            }
            Expr::MethodCall(call) => {
                let receiver = self.value(&call.receiver);
                match self.touch(&receiver, &call.method.to_string(), call.method.span()) {
                    Some((output, inputs)) => {
                        let arguments = self.arguments(&call.args, &inputs);
                        // What a closure returns may be what a generic function returns.
                        if output.is_empty() { arguments } else { output }
                    }
                    // `clone`, `map`, `unwrap_or`: it hands on what it has, or what it is given.
                    None => {
                        let inputs = vec![receiver.clone(); call.args.len()];
                        union([receiver, self.arguments(&call.args, &inputs)])
                    }
                }
            }
            Expr::Call(call) => self.call(call),
            Expr::Struct(inner) => {
                visit::visit_expr_struct(self, inner);
                self.path(&inner.path)
            }
            Expr::Closure(closure) => self.closure(closure, &Types::new()),
            Expr::Block(inner) => self.block(&inner.block),
            Expr::Async(inner) => self.block(&inner.block),
            Expr::Unsafe(inner) => self.block(&inner.block),
            Expr::If(inner) => self.scoped(|reach| {
                reach.value(&inner.cond);
                let then = reach.block(&inner.then_branch);
                let otherwise = inner.else_branch.as_ref().map(|(_, value)| reach.value(value));
                union([then, otherwise.unwrap_or_default()])
            }),
            Expr::While(inner) => self.scoped(|reach| {
                reach.value(&inner.cond);
                reach.block(&inner.body)
            }),
            Expr::ForLoop(inner) => self.scoped(|reach| {
                let each = reach.value(&inner.expr);
                reach.bind(&inner.pat, &each);
                reach.block(&inner.body)
            }),
            Expr::Match(inner) => {
                let value = self.value(&inner.expr);
                union(inner.arms.iter().map(|arm| {
                    self.scoped(|reach| {
                        reach.bind(&arm.pat, &value);
                        reach.value(&arm.body)
                    })
                }))
            }
            Expr::Let(inner) => {
                let value = self.value(&inner.expr);
                self.bind(&inner.pat, &value);
                Types::new()
            }
            Expr::Reference(inner) => self.value(&inner.expr),
            Expr::Paren(inner) => self.value(&inner.expr),
            Expr::Group(inner) => self.value(&inner.expr),
            Expr::Unary(inner) => self.value(&inner.expr),
            Expr::Try(inner) => self.value(&inner.expr),
            Expr::Await(inner) => self.value(&inner.base),
            Expr::Index(inner) => {
                self.value(&inner.index);
                self.value(&inner.expr)
            }
            Expr::Tuple(inner) => union(inner.elems.iter().map(|element| self.value(element))),
            Expr::Array(inner) => union(inner.elems.iter().map(|element| self.value(element))),
            Expr::Macro(inner) => self.macro_call(&inner.mac),
            other => {
                visit::visit_expr(self, other);
                Types::new()
            }
        }
    }

    /// Notes that a field or method is used; says what it is and what it takes. `None`: it is none of ours.
    fn touch(&mut self, types: &Types, name: &str, span: Span) -> Option<(Types, Vec<Types>)> {
        let line = span.start().line;
        let declarations = self.declarations;
        let members = declarations.members(types, name);
        if members.is_empty() {
            let others = types.iter().filter(|path| !path.starts_with("crate::"));
            self.found.extend(others.map(|path| Use { line, path: path.clone(), how: How::Reached }));
            return None;
        }
        let output = members.iter().flat_map(|(_, declaration)| declaration.output.clone()).collect();
        let inputs = members.iter().flat_map(|(_, declaration)| declaration.inputs.clone()).collect();
        self.found.extend(members.into_iter().map(|(path, _)| Use { line, path, how: How::Reached }));
        Some((output, inputs))
    }

    fn call(&mut self, call: &syn::ExprCall) -> Types {
        let Expr::Path(function) = &*call.func else {
            let function = self.value(&call.func);
            return union([function, self.arguments(&call.args, &[])]);
        };
        let paths = self.scope.resolve(self.names, &written(&function.path));
        let declarations = self.declarations;
        let known: Vec<_> = paths.iter().filter_map(|path| declarations.get(path)).collect();
        let inputs: Vec<Types> = known.iter().flat_map(|declaration| declaration.inputs.clone()).collect();
        // `Type::method(value, …)` is given `self` first.
        let n_own = call.args.len().saturating_sub(inputs.len());
        let arguments = self.arguments(&call.args, &[vec![Types::new(); n_own], inputs].concat());
        let output = self.path(&function.path);
        // `Arc::new(value)`, `Some(value)`: it hands on what it is given.
        if output.is_empty() { arguments } else { output }
    }

    /// Reads arguments. A closure among them is given what the function says, or hands to it.
    fn arguments<'e>(&mut self, arguments: impl IntoIterator<Item = &'e Expr>, inputs: &[Types]) -> Types {
        union(arguments.into_iter().enumerate().map(|(position, argument)| match argument {
            Expr::Closure(closure) => {
                let given = inputs.get(position).cloned().unwrap_or_default();
                self.closure(closure, &given)
            }
            other => self.value(other),
        }))
    }

    fn closure(&mut self, closure: &ExprClosure, given: &Types) -> Types {
        self.scoped(|reach| {
            closure.inputs.iter().for_each(|input| reach.bind(input, given));
            reach.value(&closure.body)
        })
    }

    fn block(&mut self, block: &Block) -> Types {
        self.scoped(|reach| {
            let mut last = Types::new();
            for statement in &block.stmts {
                last = match statement {
                    Stmt::Local(local) => {
                        let init = local.init.as_ref();
                        let value = init.map(|init| reach.value(&init.expr)).unwrap_or_default();
                        if let Some((_, otherwise)) = init.and_then(|init| init.diverge.as_ref()) {
                            reach.value(otherwise);
                        }
                        reach.bind(&local.pat, &value);
                        Types::new()
                    }
                    Stmt::Expr(expression, None) => reach.value(expression),
                    Stmt::Expr(expression, Some(_)) => {
                        reach.value(expression);
                        Types::new()
                    }
                    Stmt::Macro(call) => reach.macro_call(&call.mac),
                    // Its code is a body of its own.
                    Stmt::Item(_) => Types::new(),
                };
            }
            last
        })
    }

    fn macro_call(&mut self, call: &syn::Macro) -> Types {
        self.scoped(|reach| union(expressions(call.tokens.clone()).iter().map(|expression| reach.value(expression))))
    }

    fn path(&mut self, path: &syn::Path) -> Types {
        let written = written(path);
        if let Some(types) = self.locals.iter().rev().find_map(|locals| locals.get(&written)) {
            return types.clone();
        }
        let paths = self.scope.resolve(self.names, &written);
        let known = paths.iter().filter_map(|path| self.declarations.get(path));
        known.flat_map(|declaration| declaration.output.clone()).collect()
    }

    /// Gives the names in a pattern the types that they have in a value of these types.
    fn bind(&mut self, pattern: &Pat, types: &Types) {
        match pattern {
            Pat::Ident(name) => {
                self.bind_name(&name.ident.to_string(), types.clone());
                if let Some((_, inner)) = &name.subpat {
                    self.bind(inner, types);
                }
            }
            Pat::Type(typed) => {
                let types = union([types.clone(), self.scope.types(self.names, &typed.ty)]);
                self.bind(&typed.pat, &types);
            }
            Pat::Struct(inner) => {
                for field in &inner.fields {
                    let types = self.field(&inner.path, &named(&field.member).0, types);
                    self.bind(&field.pat, &types);
                }
            }
            Pat::TupleStruct(inner) => {
                for (position, element) in inner.elems.iter().enumerate() {
                    let types = self.field(&inner.path, &position.to_string(), types);
                    self.bind(element, &types);
                }
            }
            Pat::Guard(inner) => {
                self.bind(&inner.pat, types);
                self.value(&inner.guard);
            }
            Pat::Tuple(inner) => inner.elems.iter().for_each(|element| self.bind(element, types)),
            Pat::Slice(inner) => inner.elems.iter().for_each(|element| self.bind(element, types)),
            Pat::Or(inner) => inner.cases.iter().for_each(|case| self.bind(case, types)),
            Pat::Reference(inner) => self.bind(&inner.pat, types),
            Pat::Paren(inner) => self.bind(&inner.pat, types),
            _ => {}
        }
    }

    /// The types of a field in a pattern. `Some(…)` and the like hand on what they have.
    fn field(&self, path: &syn::Path, name: &str, value: &Types) -> Types {
        let owners = self.scope.resolve(self.names, &written(path));
        let members = self.declarations.members(&owners, name);
        let types: Types = members.iter().flat_map(|(_, declaration)| declaration.output.clone()).collect();
        if types.is_empty() { value.clone() } else { types }
    }

    fn bind_name(&mut self, name: &str, types: Types) {
        self.locals.last_mut().expect("a body has a scope").insert(name.to_owned(), types);
    }

    fn scoped(&mut self, read: impl FnOnce(&mut Self) -> Types) -> Types {
        self.locals.push(BTreeMap::new());
        let types = read(self);
        self.locals.pop();
        types
    }
}

/// The expressions within those that have no types of interest.
impl<'ast> Visit<'ast> for Reach<'_> {
    fn visit_expr(&mut self, expression: &'ast Expr) {
        self.value(expression);
    }

    fn visit_block(&mut self, block: &'ast Block) {
        self.block(block);
    }

    fn visit_item(&mut self, _item: &'ast Item) {}
}

fn named(member: &Member) -> (String, Span) {
    match member {
        Member::Named(name) => (name.to_string(), name.span()),
        Member::Unnamed(index) => (index.index.to_string(), index.span),
    }
}

fn union(types: impl IntoIterator<Item = Types>) -> Types {
    types.into_iter().flatten().collect()
}
