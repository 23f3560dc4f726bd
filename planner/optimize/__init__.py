"""The optimizer: a bound statement becomes a physical plan.

bound tree
  -> constants folded, conditions normalised            normalize
  -> CTEs read once inlined                             ctes
  -> filters pushed to the tables, outer joins reduced  pushdown
  -> subqueries made joins                              decorrelate   (and pushed again)
  -> inner joins ordered                                joinorder
  -> unread columns dropped                             prune
  -> operators chosen, expressions compiled             physical, build_*
  -> point statements compiled                          fast_plan
"""

from __future__ import annotations

from planner.optimize.planning import plan

__all__ = ["plan"]
