//! Topic names by the form in which '.' and '_' are the same.
use crate::cow_map::CowMap;
use crate::topic_name::unify_collision_chars;
use std::sync::Arc;

/// Names with '.' or '_' by their unified form. Only old data can hold two under one form.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Collisions(CowMap<Arc<str>, Vec<Arc<str>>>);

fn may_collide(name: &str) -> bool {
    name.contains(['.', '_'])
}

impl Collisions {
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<str>> {
        if !may_collide(name) {
            return None;
        }
        self.0.get(unify_collision_chars(name).as_str())?.first()
    }

    pub(crate) fn add(&mut self, name: &Arc<str>) {
        if may_collide(name) {
            let form: Arc<str> = unify_collision_chars(name).into();
            let mut names = self.0.get(&*form).cloned().unwrap_or_default();
            names.push(name.clone());
            names.sort();
            self.0.insert(form, names);
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let form = unify_collision_chars(name);
        let Some(mut names) = self.0.get(form.as_str()).cloned() else { return };
        names.retain(|n| &**n != name);
        if names.is_empty() {
            self.0.remove(form.as_str());
        } else {
            self.0.insert(form.into(), names);
        }
    }
}
