"""Watermark: prove that a model is yours, from its answers alone.

After Adi et al. (2018), *Turning Your Weakness Into a Strength*, with keys instead of pictures.

A key is 32 secret bytes. It gives trigger images and a label for each:

>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.key import WatermarkKey
>>> ada = Identity.new("Ada")
>>> key = WatermarkKey.new(n=100, classes=10, image_shape=(1, 32, 32), owner=ada.public)

The claim is public: it commits to the key without showing it, and fixes what counts as proof.

>>> claim = make_claim(key, ada)
>>> claim.statement.needed
46
"""
