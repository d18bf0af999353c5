//! Which tensor of a file is which of a backbone's, whoever named it.
//!
//! Our names are torchvision's, and `efficientnet-lite-pytorch`'s for EfficientNet-Lite0. timm's differ for VGG16, whose linear
//! layers it has as convolutions that see the whole map, and for EfficientNet-Lite0; torchvision's own files of DenseNet121
//! differ from its network.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::{
    checkpoint::{Checkpoint, ReadError},
    file::Cause,
};
use crate::{
    domain::spec::Backbone,
    model::{
        Difference, Network, Parameters,
        efficientnet::{EfficientNetConfig, Stage},
    },
};

/// What becomes of a file's tensors.
#[derive(Debug)]
pub(super) struct Plan {
    pub backbone: Backbone,
    pub tensors: Vec<Renamed>,
    /// Of the last layer, if it is there.
    pub classes: Option<usize>,
}

/// One tensor that is kept.
#[derive(Debug)]
pub(super) struct Renamed {
    pub ours: String,
    pub theirs: String,
    pub shape: Vec<usize>,
}

impl Plan {
    /// For a file of weights of the backbone that is wanted, or else of the one that the file says, or else of the one whose names
    /// and shapes it has. `shapes`: the file's.
    pub fn new<'a>(
        shapes: impl Iterator<Item = (&'a str, &'a [usize])> + Clone,
        said: Option<Backbone>,
        wanted: Option<Backbone>,
    ) -> Result<Self, Cause> {
        if let (Some(found), Some(wanted)) = (said, wanted)
            && found != wanted
        {
            return Err(Cause::OtherBackbone { found, wanted });
        }
        let prefix = if shapes.clone().all(|(name, _)| name.starts_with(PARALLEL)) { PARALLEL } else { "" };
        if let Some(backbone) = wanted.or(said) {
            return compare(shapes, prefix, backbone)?.map_err(|difference| mismatch(backbone, difference));
        }
        let mut fitting = Vec::new();
        let mut nearest: Option<(usize, Backbone, Difference)> = None;
        for &backbone in Backbone::ALL {
            match compare(shapes.clone(), prefix, backbone)? {
                Ok(plan) => fitting.push(plan),
                Err(difference) => {
                    let count = difference.missing.len() + difference.extra.len() + difference.misshapen.len();
                    if nearest.as_ref().is_none_or(|(least, ..)| count < *least) {
                        nearest = Some((count, backbone, difference));
                    }
                }
            }
        }
        // Networks that pad differently have the same tensors. By our names they are as TensorFlow pads, which comes first.
        let ours = |plan: &Plan| plan.tensors.iter().all(|tensor| tensor.theirs.ends_with(&tensor.ours));
        if fitting.len() > 1 && !fitting.iter().all(ours) {
            return Err(Cause::Ambiguous(fitting.iter().map(|plan| plan.backbone.as_str()).collect()));
        }
        if let Some(plan) = fitting.into_iter().next() {
            return Ok(plan);
        }
        match nearest {
            Some((count, backbone, difference)) if count < shapes.clone().count() => {
                Err(mismatch(backbone, difference))
            }
            _ => Err(Cause::Unknown(shapes.map(|(name, _)| name.to_owned()).take(5).collect())),
        }
    }

    /// The tensors by our names, as float32, one after the other.
    pub fn tensors(&self, file: &Checkpoint) -> impl Iterator<Item = Result<(String, Tensor), ReadError>> {
        self.tensors.iter().map(|Renamed { ours, theirs, shape }| {
            let tensor = file.tensor(theirs).unwrap_or(Err(ReadError::Format))?;
            Ok((ours.clone(), tensor.reshape(shape.as_slice())?))
        })
    }
}

fn mismatch(backbone: Backbone, difference: Difference) -> Cause {
    Cause::Mismatch { backbone, difference: Box::new(difference) }
}

/// What PyTorch puts before every name of a network that was trained on several devices.
const PARALLEL: &str = "module.";

/// Every difference between what the file has and what the backbone needs. The last layer may be there, the counters of batch
/// norms are left out.
fn compare<'a>(
    shapes: impl Iterator<Item = (&'a str, &'a [usize])>,
    prefix: &str,
    backbone: Backbone,
) -> Result<Result<Plan, Difference>, ReadError> {
    let mut params = Parameters::zeros(DType::F32, &Device::Cpu);
    let network = Network::new(&mut params, backbone)?;
    let mut wanted: BTreeMap<&str, &[usize]> = params.iter().map(|(name, var)| (name.as_str(), var.dims())).collect();
    let mut tensors = Vec::new();
    let mut classes = None;
    let mut difference = Difference::default();
    for (theirs, shape) in shapes.filter(|(name, _)| !name.ends_with(".num_batches_tracked")) {
        let ours = our_name(backbone, theirs.strip_prefix(prefix).unwrap_or(theirs));
        match wanted.remove(ours.as_str()) {
            Some(expected) if is_shape_of(shape, expected) => {
                tensors.push(Renamed { ours, theirs: theirs.into(), shape: expected.into() });
            }
            Some(expected) => difference.misshapen.push((theirs.into(), expected.into(), shape.into())),
            // One of each name: a file may have the last layer by two.
            None if network.ignores(&ours) && !tensors.iter().any(|kept: &Renamed| kept.ours == ours) => {
                classes = classes.or(shape.first().copied());
                tensors.push(Renamed { ours, theirs: theirs.into(), shape: shape.into() });
            }
            None => difference.extra.push(theirs.into()),
        }
    }
    difference.missing = wanted.into_keys().map(str::to_owned).collect();
    Ok(if difference == Difference::default() { Ok(Plan { backbone, tensors, classes }) } else { Err(difference) })
}

/// Whether it has this shape; a convolution that sees its whole input is the linear layer whose weights it has.
fn is_shape_of(shape: &[usize], expected: &[usize]) -> bool {
    match (shape, expected) {
        ([out, channels, height, width], [expected_out, input]) => {
            out == expected_out
                && channels.checked_mul(*height).and_then(|plane| plane.checked_mul(*width)) == Some(*input)
        }
        _ => shape == expected,
    }
}

/// Our name of a tensor. Names that are not known stay as they are.
fn our_name(backbone: Backbone, name: &str) -> String {
    let (layer, tensor) = name.rsplit_once('.').unwrap_or(("", name));
    let layer = match backbone {
        Backbone::VggTiny | Backbone::ResNetTiny | Backbone::DenseNetTiny | Backbone::ResNet34 => None,
        Backbone::Vgg16 => vgg_layer(layer).map(str::to_owned),
        Backbone::DenseNet121 => densenet_layer(layer),
        Backbone::EfficientNetLite0 | Backbone::EfficientNetLite0Timm => efficientnet_layer(layer),
    };
    layer.map_or_else(|| name.to_owned(), |layer| format!("{layer}.{tensor}"))
}

fn vgg_layer(name: &str) -> Option<&'static str> {
    match name {
        "pre_logits.fc1" => Some("classifier.0"),
        "pre_logits.fc2" => Some("classifier.3"),
        "head.fc" => Some("classifier.6"),
        _ => None,
    }
}

/// `…denselayer1.norm.1` is `…denselayer1.norm1`: PyTorch once allowed the dot.
fn densenet_layer(name: &str) -> Option<String> {
    let (layer, number) = name.rsplit_once('.')?;
    let is_part = layer.ends_with(".norm") || layer.ends_with(".conv");
    (layer.contains(".denselayer") && is_part && ["1", "2"].contains(&number)).then(|| format!("{layer}{number}"))
}

fn efficientnet_layer(name: &str) -> Option<String> {
    let outer = match name {
        "conv_stem" => Some("_conv_stem"),
        "bn1" => Some("_bn0"),
        "conv_head" => Some("_conv_head"),
        "bn2" => Some("_bn1"),
        "classifier" => Some("_fc"),
        _ => None,
    };
    if let Some(outer) = outer {
        return Some(outer.to_owned());
    }
    let [stage, block, part] = name.strip_prefix("blocks.")?.split('.').collect::<Vec<_>>().try_into().ok()?;
    let (stage, block): (usize, usize) = (stage.parse().ok()?, block.parse().ok()?);
    let stages = EfficientNetConfig::LITE0.stages;
    let Stage { blocks, expansion, .. } = *stages.get(stage)?;
    // The first block widens nothing: its depthwise convolution comes first.
    let part = match (expansion == 1, part) {
        (true | false, "conv_dw") => "_depthwise_conv",
        (true, "bn1") | (false, "bn2") => "_bn1",
        (true, "conv_pw") | (false, "conv_pwl") => "_project_conv",
        (true, "bn2") | (false, "bn3") => "_bn2",
        (false, "conv_pw") => "_expand_conv",
        (false, "bn1") => "_bn0",
        _ => return None,
    };
    let before: usize = stages[..stage].iter().map(|stage| stage.blocks).sum();
    (block < blocks).then(|| format!("_blocks.{}.{part}", before + block))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Source {
        backbone: Backbone,
        tensors: BTreeMap<String, Vec<usize>>,
    }

    impl Source {
        fn plan(&self, backbone: Option<Backbone>) -> Result<Plan, Cause> {
            Plan::new(self.tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())), None, backbone)
        }
    }

    /// Of timm's, torchvision's and the EfficientNet package's networks, by `weight_names.py`.
    fn sources() -> BTreeMap<String, Source> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/weight_names.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn every_tensor_of_every_source_has_its_place_and_every_place_its_tensor() {
        let sources = sources();
        assert_eq!(sources.len(), 10);
        for (name, source) in &sources {
            let plan = source.plan(Some(source.backbone)).unwrap_or_else(|cause| panic!("{name}: {cause}"));
            match source.plan(None) {
                Ok(guessed) => assert_eq!(guessed.backbone, source.backbone, "{name}"),
                Err(cause) => {
                    assert!(name.ends_with("efficientnet_lite0"), "{name}: {cause}");
                    let expected = "it fits efficientnet-lite0 and efficientnet-lite0-timm alike, ";
                    assert!(cause.to_string().starts_with(expected), "{cause}");
                }
            }
            let mut params = Parameters::zeros(DType::F32, &Device::Cpu);
            let network = Network::new(&mut params, plan.backbone).unwrap();
            let ours: BTreeMap<&str, &Renamed> =
                plan.tensors.iter().map(|tensor| (tensor.ours.as_str(), tensor)).collect();
            let theirs = source.tensors.keys().filter(|name| !name.ends_with("num_batches_tracked")).count();
            assert_eq!((plan.tensors.len(), ours.len()), (theirs, theirs), "{name}");
            for (tensor, var) in params.iter() {
                assert_eq!(ours[tensor.as_str()].shape, var.dims(), "{name}: {tensor}");
            }
            assert_eq!(plan.classes, Some(1000), "{name}");
            // Weight and bias of the last layer, of 1000 classes.
            let last: Vec<_> =
                ours.values().filter(|tensor| network.ignores(&tensor.ours)).map(|tensor| tensor.shape[0]).collect();
            assert_eq!((last.len() + params.iter().count(), last), (theirs, vec![1000, 1000]), "{name}");
        }
    }

    #[test]
    fn every_tensor_that_differs_is_named() {
        let mut source = sources().remove("timm vgg16").unwrap();
        for (name, tensor) in std::mem::take(&mut source.tensors) {
            source.tensors.insert(format!("module.{name}"), tensor);
        }
        assert!(source.plan(None).is_ok(), "of a network that was trained on several devices");
        source.tensors.remove("module.features.0.bias").unwrap();
        source.tensors.insert("module.pre_logits.fc1.weight".into(), vec![4096, 512, 7, 6]);
        source.tensors.insert("module.pre_logits.fc1.weight_g".into(), vec![4096]);
        for backbone in [None, Some(Backbone::Vgg16)] {
            let error = source.plan(backbone).unwrap_err().to_string();
            assert_eq!(
                error,
                "as vgg16, not of this network; missing: features.0.bias; unexpected: module.pre_logits.fc1.weight_g; of \
                 another shape: module.pre_logits.fc1.weight (expected [4096, 25088], found [4096, 512, 7, 6])"
            );
        }
        source.tensors.insert("module.classifier.6.bias".into(), vec![1000]);
        let error = source.plan(None).unwrap_err().to_string();
        assert!(error.contains("unexpected: module.head.fc.bias, module.pre_logits.fc1.weight_g; "), "{error}");
        let error = source.plan(Some(Backbone::ResNet34)).unwrap_err().to_string();
        assert!(error.contains("as resnet34, not of this network; missing: bn1.bias, "), "{error}");
        source.tensors.retain(|name, _| name.contains("pre_logits"));
        let error = source.plan(None).unwrap_err().to_string();
        assert!(
            error.contains("it is of no network that Twograin has; its tensors are module.pre_logits.fc1.bias, "),
            "{error}"
        );
    }
}
