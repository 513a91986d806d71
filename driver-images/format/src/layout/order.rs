//! The order of trees: each after those that it needs, otherwise as they are written.

use std::collections::BTreeSet;

/// Positions in the order of building; `needs[i]` are the positions that i needs. The error has the positions of a circle, in which
/// each needs the next one.
pub fn order(needs: &[BTreeSet<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut done: Vec<usize> = Vec::with_capacity(needs.len());
    while done.len() < needs.len() {
        let ready = |at: &usize| !done.contains(at) && needs[*at].iter().all(|need| done.contains(need));
        match (0..needs.len()).find(ready) {
            Some(next) => done.push(next),
            None => return Err(circle(needs, &done)),
        }
    }
    Ok(done)
}

/// Each position that is not done needs another one that is not done, so following them comes back.
fn circle(needs: &[BTreeSet<usize>], done: &[usize]) -> Vec<usize> {
    let open = |at: &usize| !done.contains(at);
    let mut path: Vec<usize> = Vec::new();
    let mut next = (0..needs.len()).find(open);
    while let Some(at) = next {
        if let Some(start) = path.iter().position(|seen| *seen == at) {
            return path.split_off(start);
        }
        path.push(at);
        next = needs[at].iter().copied().find(open);
    }
    path
}
