//! From the lists of an instances file to the images that the two-level rule keeps.

use std::{
    collections::HashMap,
    path::{Component, Path},
};

use super::{Funnel, ImportedImage, ImportedSplit, error::Defect, file::CocoFile};
use crate::domain::{FineId, Taxonomy, taxonomy::Parentage};

/// Checks that the lists agree with each other and with `taxonomy`, and applies the rule.
pub(super) fn filter(file: CocoFile, taxonomy: &Taxonomy) -> Result<ImportedSplit, Defect> {
    let CocoFile { images, annotations, categories } = file;
    let image_of = index_by_id("images", images.iter().map(|image| image.id))?;
    let category_of = index_by_id("categories", categories.iter().map(|category| category.id))?;
    index_by_id("annotations", annotations.iter().map(|annotation| annotation.id))?;

    if let Some((index, image)) = images.iter().enumerate().find(|(_, image)| !stays_inside(&image.file_name)) {
        return Err(Defect::OutsideDirectory { index, file_name: image.file_name.clone() });
    }
    let mut fine_of_category = Vec::with_capacity(categories.len());
    for (index, category) in categories.into_iter().enumerate() {
        fine_of_category.push(taxonomy.find_fine(&category.name).ok_or_else(|| Defect::NotInTaxonomy {
            index,
            name: category.name,
            taxonomy: taxonomy.name().to_owned(),
        })?);
    }

    // An image has few labels and many annotations of the same one: a scan keeps the lists short.
    let mut labels: Vec<Vec<FineId>> = vec![Vec::new(); images.len()];
    for (index, annotation) in annotations.iter().enumerate() {
        let (image_id, category_id) = (annotation.image_id, annotation.category_id);
        let image = *image_of.get(&image_id).ok_or(Defect::UnknownImage { index, image_id })?;
        let category = *category_of.get(&category_id).ok_or(Defect::UnknownCategory { index, category_id })?;
        let fine = fine_of_category[category];
        if !labels[image].contains(&fine) {
            labels[image].push(fine);
        }
    }

    let mut funnel =
        Funnel { read: images.len() as u64, kept_per_coarse: vec![0; taxonomy.coarse().len()], ..Funnel::default() };
    let mut kept = Vec::new();
    for (image, labels) in images.into_iter().zip(labels) {
        let labels = labels.into();
        match taxonomy.parentage(&labels) {
            Parentage::Unlabelled => funnel.unlabelled += 1,
            Parentage::PublicOnly => funnel.public_only += 1,
            Parentage::Several => funnel.several += 1,
            Parentage::One(coarse) => {
                funnel.kept += 1;
                funnel.kept_per_coarse[coarse.index()] += 1;
                kept.push(ImportedImage {
                    source_id: image.id,
                    file_name: image.file_name,
                    width: image.width,
                    height: image.height,
                    labels,
                    coarse,
                });
            }
        }
    }
    kept.sort_unstable_by_key(|image| image.source_id);
    Ok(ImportedSplit { funnel, images: kept })
}

fn index_by_id(list: &'static str, ids: impl ExactSizeIterator<Item = i64>) -> Result<HashMap<i64, usize>, Defect> {
    let mut index_of = HashMap::with_capacity(ids.len());
    for (index, id) in ids.enumerate() {
        if let Some(first) = index_of.insert(id, index) {
            return Err(Defect::DuplicateId { list, index, first, id });
        }
    }
    Ok(index_of)
}

/// Whether a path relative to a directory names something inside it, by its spelling.
fn stays_inside(file_name: &str) -> bool {
    let mut components = Path::new(file_name).components().peekable();
    components.peek().is_some() && components.all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::stays_inside;

    #[test]
    fn only_paths_below_the_directory_stay_inside() {
        for inside in ["1.jpg", "train/1.jpg", "a..b.jpg"] {
            assert!(stays_inside(inside), "{inside}");
        }
        for outside in ["", ".", "..", "../1.jpg", "a/../../1.jpg", "a/../1.jpg", "/etc/passwd"] {
            assert!(!stays_inside(outside), "{outside}");
        }
    }
}
