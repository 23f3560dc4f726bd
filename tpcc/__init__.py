"""The TPC-C runner: a plain PostgreSQL client of any DSN.

| module | knows |
| --- | --- |
| ``scale`` | cardinalities of clause 1.2 and 4.3 |
| ``randomness`` | NURand, last names, random text (4.3.2) |
| ``schema`` | the nine tables, their indexes and foreign keys |
| ``population`` | the rows of clause 4.3.3, part by part |
| ``loading`` | client processes that COPY the parts |
| ``statements`` | every SQL text of a run |
| ``inputs`` | what a terminal would type (2.4.1 to 2.8.1), the deck, the waits |
| ``transactions`` | the five transaction bodies |
| ``session`` | one connection; statement by statement, or pipelined |
| ``attempts`` | retries, and what may never be retried |
| ``histogram``, ``metrics`` | counts and latencies per second |
| ``worker``, ``running`` | client processes and who starts them |
| ``checks`` | the twelve consistency conditions (3.3.2) |
| ``result``, ``report``, ``charts`` | result.json and its page |
| ``output`` | progress: bars, plain lines or JSON lines |
| ``cli`` | the commands |

Nothing of the server is imported here, so that it measures any server alike.
Clause numbers are those of the TPC-C standard specification, revision 5.11.
"""
