//! The paper's figures, shown as reference rows and never mixed with measured ones.
//!
//! Source: Zhao, Wang, Liu, “Multi-Semantic Image Recognition Model and Evaluating Index for explaining the deep learning
//! models” (2021), tables 2 to 4.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::domain::spec::{Backbone, Objective};

/// One table of the paper.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PaperTable {
    /// Its title.
    pub title: Cow<'static, str>,
    /// What the networks in it learned.
    pub objective: Objective,
    /// One row per backbone.
    pub rows: Vec<PaperRow>,
    /// What a careful reader finds in it.
    pub remark: Cow<'static, str>,
}

/// One backbone's figures. Which are there depends on the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PaperRow {
    /// The backbone as the paper names it.
    pub backbone: Cow<'static, str>,
    /// Coarse-only accuracy (table 2).
    pub coarse_only_accuracy: Option<f64>,
    /// IA as printed.
    pub ia: Option<f64>,
    /// IP as printed.
    pub ip: Option<f64>,
    /// IR as printed.
    pub ir: Option<f64>,
    /// IF1 as printed.
    pub if1: Option<f64>,
    /// Eq. 4 of the printed IP and IR, which is not the printed IF1.
    pub if1_recomputed: Option<f64>,
    /// IA / IR: the coarse accuracy that the printed figures imply.
    pub implied_coarse_accuracy: Option<f64>,
}

impl PaperRow {
    /// Whether it is about this backbone.
    pub fn is_of(&self, backbone: Backbone) -> bool {
        self.backbone.eq_ignore_ascii_case(backbone.as_str())
    }
}

/// Tables 2, 3 and 4.
pub fn paper_tables() -> Vec<PaperTable> {
    vec![
        PaperTable {
            title: "Table 2: coarse-only accuracy (“unexplainable accuracy”)".into(),
            objective: Objective::CoarseOnly,
            rows: [("VGG16", 0.8457), ("ResNet34", 0.8655), ("DenseNet121", 0.8946)]
                .map(|(backbone, accuracy)| PaperRow {
                    backbone: backbone.into(),
                    coarse_only_accuracy: Some(accuracy),
                    ia: None,
                    ip: None,
                    ir: None,
                    if1: None,
                    if1_recomputed: None,
                    implied_coarse_accuracy: None,
                })
                .into(),
            remark: "No integer count over 2,447 test images gives 0.8457.".into(),
        },
        PaperTable {
            title: "Table 3: top-k softmax (k = true number of labels), focal loss".into(),
            objective: Objective::TopKSoftmax,
            rows: vec![
                indices_row("VGG16", 0.6502, 0.9947, 0.7544, 0.8586),
                indices_row("ResNet34", 0.6841, 0.9981, 0.7774, 0.8715),
                indices_row("DenseNet121", 0.7295, 0.9988, 0.8102, 0.8913),
            ],
            remark: "The printed IF1 is not eq. 4 of the printed IP and IR; averaging over batches can only lower IF1, so it \
                     could explain every row of tables 3 and 4 but VGG16's here. No integer counts over 2,447 images give these \
                     three IPs. The coarse accuracy implied by IA / IR lies above table 2's.".into(),
        },
        PaperTable {
            title: "Table 4: sigmoid threshold, θ = 0.7".into(),
            objective: Objective::SigmoidThreshold,
            rows: vec![
                indices_row("VGG16", 0.4947, 1.0, 0.6146, 0.7567),
                indices_row("ResNet34", 0.5856, 1.0, 0.6799, 0.8044),
                indices_row("DenseNet121", 0.5488, 1.0, 0.6632, 0.7900),
            ],
            remark: "The printed IF1 is not eq. 4 of the printed IP and IR. No integer count over 2,447 images gives IA 0.4947. \
                     The coarse accuracy implied by IA / IR lies below table 2's.".into(),
        },
    ]
}

fn indices_row(backbone: &'static str, ia: f64, ip: f64, ir: f64, if1: f64) -> PaperRow {
    PaperRow {
        backbone: backbone.into(),
        coarse_only_accuracy: None,
        ia: Some(ia),
        ip: Some(ip),
        ir: Some(ir),
        if1: Some(if1),
        if1_recomputed: Some(2.0 * ip * ir / (ip + ir)),
        implied_coarse_accuracy: Some(ia / ir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_has_the_three_backbones() {
        for table in paper_tables() {
            for backbone in [Backbone::Vgg16, Backbone::ResNet34, Backbone::DenseNet121] {
                assert_eq!(
                    table.rows.iter().filter(|row| row.is_of(backbone)).count(),
                    1,
                    "{}: {backbone}",
                    table.title
                );
            }
        }
    }

    #[test]
    fn the_derived_columns_are_what_the_method_says() {
        let tables = paper_tables();
        let column = |table: usize, of: fn(&PaperRow) -> Option<f64>| -> Vec<f64> {
            tables[table].rows.iter().map(|row| (of(row).unwrap() * 1e4).round() / 1e4).collect()
        };
        assert_eq!(column(1, |row| row.if1_recomputed), [0.8580, 0.8740, 0.8947]);
        assert_eq!(column(2, |row| row.if1_recomputed), [0.7613, 0.8095, 0.7975]);
        assert_eq!(column(1, |row| row.implied_coarse_accuracy), [0.8619, 0.8800, 0.9004]);
        assert_eq!(column(2, |row| row.implied_coarse_accuracy), [0.8049, 0.8613, 0.8275]);
    }
}
