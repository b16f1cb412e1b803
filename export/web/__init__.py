"""A page that writes with the model in any browser: a folder with the step and ONNX Runtime, and no server.

`page` lays the folder out, `ort_web` finds the files of the npm package onnxruntime-web. ``page.html`` and
``page.js`` are the page; ``noise.js`` and ``choice.js`` say in JavaScript what `contract.noise` and
`contract.sampling` say.
"""
