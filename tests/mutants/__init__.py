"""Which changes of a rule does no quick test notice, and why may they pass?"""
