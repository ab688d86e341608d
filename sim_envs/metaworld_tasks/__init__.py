"""MetaWorld (Yu et al., CoRL 2019): 50 manipulation tasks of one Sawyer arm, alone (MT1) or mixed (MT10, MT50)."""
