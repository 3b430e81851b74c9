//! Which name somebody gets whose wish is taken.

use std::collections::BTreeSet;

use seodang_model::{DisplayName, StorageName};

/// The wish, or the wish with the first number that nobody present could be confused with.
pub(super) fn shown(wish: &DisplayName, present: &BTreeSet<String>) -> DisplayName {
    (1..)
        .map(|count| wish.numbered(count))
        .find(|name| !present.contains(&name.skeleton()))
        .expect("there are more numbers than people in a room")
}

/// The name on disk for a shown name that nobody in this lesson ever had.
pub(super) fn stored(shown: &DisplayName, taken: &BTreeSet<String>) -> StorageName {
    let plain = StorageName::for_display(shown);
    (1..)
        .map(|count| plain.numbered(count))
        .find(|name| !taken.contains(&name.folded()))
        .expect("there are more numbers than people in a lesson")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namesakes_are_numbered_on_the_screen_and_on_disk() {
        let wish = DisplayName::parse("민수").expect("a name");
        let (mut present, mut taken) = (BTreeSet::new(), BTreeSet::new());
        let mut names = Vec::new();
        for _ in 0..3 {
            let name = shown(&wish, &present);
            let file = stored(&name, &taken);
            present.insert(name.skeleton());
            taken.insert(file.folded());
            names.push((name.as_str().to_owned(), file.as_str().to_owned()));
        }
        let expected = [("민수", "민수"), ("민수 2", "민수-2"), ("민수 3", "민수-3")];
        assert_eq!(
            names,
            expected.map(|(name, file)| (name.to_owned(), file.to_owned()))
        );
    }

    #[test]
    fn a_name_that_is_free_again_gets_a_file_of_its_own() {
        let wish = DisplayName::parse("민수").expect("a name");
        let taken = BTreeSet::from(["민수".to_owned()]);
        assert_eq!(shown(&wish, &BTreeSet::new()).as_str(), "민수");
        assert_eq!(stored(&wish, &taken).as_str(), "민수-2");
    }

    #[test]
    fn somebody_who_looks_like_the_teacher_is_numbered() {
        let teacher = DisplayName::parse("Teacher Kim").expect("a name");
        let present = BTreeSet::from([teacher.skeleton()]);
        let copy = DisplayName::parse("Tеасhеr Кim").expect("Cyrillic letters in it");
        assert!(shown(&copy, &present).as_str().ends_with(" 2"));
    }
}
