//! Just enough reading of Rust to see what a file imports.

/// The text with comments, strings and character literals blanked; line breaks stay where they are.
pub(super) fn code_only(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let at = |index: usize| letters.get(index).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut index = 0;
    while index < letters.len() {
        let end = match (at(index), at(index + 1)) {
            ('/', '/') => (index..letters.len()).find(|&i| at(i) == '\n').unwrap_or(letters.len()),
            ('/', '*') => block_comment_end(&letters, index),
            ('"', _) => string_end(&letters, index),
            ('r', '"' | '#') if !is_name(index.checked_sub(1).map_or(' ', &at)) || at(index - 1) == 'b' => {
                raw_string_end(&letters, index).unwrap_or(index)
            }
            ('\'', '\\') => (index + 3..letters.len()).find(|&i| at(i) == '\'').map_or(letters.len(), |i| i + 1),
            ('\'', _) if at(index + 2) == '\'' => index + 3,
            _ => index,
        };
        if end == index {
            out.push(at(index));
            index += 1;
        } else {
            out.extend((index..end.min(letters.len())).map(|i| if at(i) == '\n' { '\n' } else { ' ' }));
            index = end;
        }
    }
    out
}

fn block_comment_end(letters: &[char], start: usize) -> usize {
    let (mut depth, mut index) = (0, start);
    while index < letters.len() {
        match letters.get(index..index + 2) {
            Some(['/', '*']) => (depth, index) = (depth + 1, index + 2),
            Some(['*', '/']) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            return index;
        }
    }
    letters.len()
}

fn string_end(letters: &[char], start: usize) -> usize {
    let mut index = start + 1;
    while index < letters.len() {
        match letters[index] {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    letters.len()
}

/// None if it is `r#name`.
fn raw_string_end(letters: &[char], start: usize) -> Option<usize> {
    let hashes = letters[start + 1..].iter().take_while(|letter| **letter == '#').count();
    let body = start + 1 + hashes;
    if letters.get(body) != Some(&'"') {
        return None;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let end = (body + 1..letters.len()).find(|&index| letters[index..].starts_with(&closing));
    Some(end.map_or(letters.len(), |index| index + closing.len()))
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The names that directly follow `prefix` (such as `crate::`), those in a group `prefix{a::b, c}` included.
pub(super) fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (index, _) in code.match_indices(prefix) {
        let before = code[..index].chars().next_back().unwrap_or(' ');
        if is_name(before) || before == ':' || before == '$' {
            continue;
        }
        let rest = code[index + prefix.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_names(group)),
            None => names.extend(first_name(rest)),
        }
    }
    names
}

fn first_name(text: &str) -> Option<String> {
    let name: String = text.trim_start().chars().take_while(|letter| is_name(*letter)).collect();
    (!name.is_empty()).then_some(name)
}

/// Of `a::{x, y}, b}…` the names `a` and `b`.
fn group_names(group: &str) -> Vec<String> {
    let mut depth = 1;
    let mut names = Vec::new();
    let mut item_begins = true;
    for (index, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => item_begins = true,
            _ if item_begins && is_name(letter) => {
                names.extend(first_name(&group[index..]));
                item_begins = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Whether the code uses the foreign crate `name`: `name::…`, `use name;` or `use name as …`.
pub(super) fn uses_crate(code: &str, name: &str) -> bool {
    // A module of the same name that the file declares itself hides the crate.
    if code.contains(&format!("mod {name};")) || code.contains(&format!("mod {name} {{")) {
        return false;
    }
    let as_path = code.match_indices(&format!("{name}::")).any(|(index, _)| {
        let before = code[..index].trim_end_matches(' ');
        // `::name::` with a name before it is a module; `::name::` alone is the crate.
        let inner = before.strip_suffix("::").is_some_and(|outer| outer.ends_with(is_name));
        !inner && !code[..index].ends_with(is_name)
    });
    as_path || code.contains(&format!("use {name};")) || code.contains(&format!("use {name} as "))
}
