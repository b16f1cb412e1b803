"""The toy problem: recurrent cells tell Baum-Sweet numbers from others by their binary digits.

`problem` and `counts` are the sequence, `classifier` and `training` one training, `settings` and `runs` all
of them, `results`, `claims`, `plots` and `section` what is made of them, `experiment` the command.
"""
