//! What the compiler does not find: functions that do not exist, and loops within loops.

use super::{ENVIRONMENT, FilterError};
use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue};
use cel::{Context, ExecutionError, IdedExpr, Program};
use std::sync::Arc;

/// A misspelt function would otherwise make a dead letter of every record.
pub(super) fn functions_exist(program: &Program, text: &str) -> Result<(), FilterError> {
    let context = Context::with_env(Arc::clone(&ENVIRONMENT));
    let mut unknown = None;
    walk(program.expression(), 0, &mut |node, _| {
        if let Expr::Call(call) = &node.expr
            && unknown.is_none()
            && !exists(call, &context)
        {
            unknown = Some((node.id, call.func_name.clone()));
        }
    });
    match unknown {
        Some((id, name)) => Err(syntax(program, text, id, format!("there is no function `{name}`"))),
        None => Ok(()),
    }
}

/// Lists in a record are as long as a stranger makes them; one loop over them is bounded by the body's size, a loop
/// within a loop by its square.
pub(super) fn loops_are_not_nested(program: &Program, text: &str) -> Result<(), FilterError> {
    let mut nested = None;
    walk(program.expression(), 0, &mut |node, loops| {
        if loops > 0 && matches!(node.expr, Expr::Comprehension(_)) && nested.is_none() {
            nested = Some(node.id);
        }
    });
    match nested {
        Some(id) => {
            let problem = "a loop (all, exists, exists_one, map, filter) within a loop is not offered";
            Err(syntax(program, text, id, problem.to_owned()))
        }
        None => Ok(()),
    }
}

/// Asks the environment itself, by a call without arguments: an existing function complains of them, one that does
/// not exist is an undeclared reference.
fn exists(call: &CallExpr, context: &Context<'_, '_>) -> bool {
    // Operators are written `_==_`, `!_`, `@in`: the parser makes only those that exist.
    if !call.func_name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return true;
    }
    let is_declared = |target: Option<Box<IdedExpr>>| {
        let probe = CallExpr { func_name: call.func_name.clone(), target, args: Vec::new() };
        let answer = context.resolve(&IdedExpr { id: 0, expr: Expr::Call(probe) });
        !matches!(answer, Err(ExecutionError::UndeclaredReference(_)))
    };
    match &call.target {
        None => is_declared(None),
        // `optional.of(x)` looks like a method of `optional` and is a function of that name.
        Some(target) => {
            let null = IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Null) };
            is_declared(Some(Box::new(null))) || is_declared(Some(target.clone()))
        }
    }
}

fn syntax(program: &Program, text: &str, id: u64, problem: String) -> FilterError {
    let offset = program.source_info().offset_for(id).map_or(0, |(start, _)| start as usize);
    let line_start = text.get(..offset).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let column = text.get(line_start..offset).map_or(0, |before| before.chars().count()) + 1;
    FilterError::Syntax { column, problem }
}

/// Shows each node to `visit`, with the number of loops it is inside of.
fn walk<'a>(node: &'a IdedExpr, loops: usize, visit: &mut impl FnMut(&'a IdedExpr, usize)) {
    visit(node, loops);
    match &node.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Call(call) => {
            call.target.iter().for_each(|target| walk(target, loops, visit));
            call.args.iter().for_each(|argument| walk(argument, loops, visit));
        }
        Expr::Comprehension(comprehension) => {
            walk(&comprehension.iter_range, loops, visit);
            walk(&comprehension.accu_init, loops, visit);
            walk(&comprehension.loop_cond, loops + 1, visit);
            walk(&comprehension.loop_step, loops + 1, visit);
            walk(&comprehension.result, loops, visit);
        }
        Expr::List(list) => list.elements.iter().for_each(|element| walk(element, loops, visit)),
        Expr::Select(select) => walk(&select.operand, loops, visit),
        Expr::Map(map) => map.entries.iter().for_each(|entry| walk_entry(&entry.expr, loops, visit)),
        Expr::Struct(structure) => structure.entries.iter().for_each(|entry| walk_entry(&entry.expr, loops, visit)),
    }
}

fn walk_entry<'a>(entry: &'a EntryExpr, loops: usize, visit: &mut impl FnMut(&'a IdedExpr, usize)) {
    match entry {
        EntryExpr::StructField(field) => walk(&field.value, loops, visit),
        EntryExpr::MapEntry(entry) => {
            walk(&entry.key, loops, visit);
            walk(&entry.value, loops, visit);
        }
    }
}
