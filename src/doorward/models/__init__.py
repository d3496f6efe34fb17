"""Models: the zoo, surgery, checks, and models that only answer.

From one line to full control. A new model for images in ``[0, 1]``:

>>> import torch
>>> from doorward.models import check_model, create, features, find_head, load_factory
>>> model = create("resnet8", classes=["cat", "dog"], input_shape=(3, 32, 32))
>>> model(torch.rand(5, 3, 32, 32)).shape
torch.Size([5, 2])

Any other model, checked before it is used:

>>> foreign = load_factory("torch.nn:Flatten")
>>> [problem.what for problem in check_model(foreign, input_shape=(3, 32, 32), classes=10)]
['there is no head', 'the model has 3072 outputs for 10 classes']

Inside a model (`sites` lists the names; `capture` reads activations there):

>>> find_head(model)[0], features(model, torch.rand(5, 3, 32, 32)).shape
('head', torch.Size([5, 128]))

A model that only answers: a module, a function, an ONNX file or an HTTP endpoint:

>>> from doorward.models import as_black_box
>>> as_black_box(model).labels(torch.rand(5, 3, 32, 32)).shape
torch.Size([5])
"""

from doorward.models.answers import to_labels
from doorward.models.blackbox import BlackBox, CallableBox, ModuleBox, as_black_box
from doorward.models.checking import Problem, check_model, require_model
from doorward.models.classifier import Body, Classifier
from doorward.models.endpoint import HttpBox
from doorward.models.loading import load_factory
from doorward.models.modes import evaluating
from doorward.models.onnx import OnnxBox, export_onnx
from doorward.models.surgery import capture, features, find_head, replace_head, site, sites
from doorward.models.zoo import ARCHITECTURES, create, skeleton

__all__ = [
    "ARCHITECTURES",
    "BlackBox",
    "Body",
    "CallableBox",
    "Classifier",
    "HttpBox",
    "ModuleBox",
    "OnnxBox",
    "Problem",
    "as_black_box",
    "capture",
    "check_model",
    "create",
    "evaluating",
    "export_onnx",
    "features",
    "find_head",
    "load_factory",
    "replace_head",
    "require_model",
    "site",
    "sites",
    "skeleton",
    "to_labels",
]
