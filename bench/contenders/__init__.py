"""The contenders, each a plug-in of `..contender`; `registry` lists them in the report's order."""
