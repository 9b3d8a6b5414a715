"""What do simulated workers save, what is committed of it, and with what does a run end?"""

from __future__ import annotations

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from tests.simulation.engine import Engine
from tests.simulation.parts import SimWorker, State


class Saving(Engine):
    """Checkpoints, and the store that holds them."""

    def save(self, worker: SimWorker, state: State) -> None:
        generation, digests = worker.generation, {"v": state.chain}
        step, position = state.place
        self.saved_chains.setdefault((generation, step, position), set()).add(state.chain)
        if worker.ident != worker.writer:
            self.soon(ev.SaveChecked(worker.ident, generation, step, digests, position), 0.05)
        elif worker.writing is not None:
            self.soon(ev.SaveFailed(generation, step, "busy", busy=True, position=position))
        elif self.store_down or self.random.random() < self.faults.save_fails:
            self.soon(ev.SaveFailed(generation, step, "503", position=position), 0.1)
        else:
            bad = ("v",) if state.nan else ()
            written = ev.SaveWritten(
                worker.ident,
                generation,
                state.step,
                state.position,
                "d",
                "p",
                (state,),
                digests,
                bad,
            )
            worker.writing = generation
            self.at(self.faults.write_s, lambda: self.wrote(worker, written))

    def wrote(self, worker: SimWorker, written: ev.SaveWritten) -> None:
        worker.writing = None
        if worker.alive:
            self.soon(written)

    def do_Commit(self, action: act.Commit) -> None:
        state = action.written.files[0]
        self.check(state.step == action.written.step, "saved bytes aren't those of the agreed step")
        chains = self.saved_chains.get((action.written.generation, *state.place), set())
        # the last save has one writer, whose state is the run's
        alone = self.run.ending is not None
        self.check(len(chains) <= 1 or alone, "a state on which the ranks differ was committed")
        self.check(not state.nan, "a state that isn't finite was committed")
        attempt = self.attempt

        def commit() -> None:
            self.check(attempt == self.attempt, "two writers")
            self.committed[state.step] = state
            self.journal.append({"at": self.now, "event": "save_committed", "step": state.step})
            if self.random.random() < self.faults.damaged:
                self.damaged.add(state.step)
            self.tell(ev.Committed(action.written.generation, state.step))

        self.at(0.05, lambda: commit() if attempt == self.attempt else None)

    def do_FindCheckpoint(self, action: act.FindCheckpoint) -> None:
        living = [
            w.ident
            for w in self.workers.values()
            if w.alive and not w.stopped and w.held and w.state and w.ident in self.run.members
        ]
        self.check(
            not living or self.void == self.passes > 0,
            "storage is read though somebody has the state",
        )
        attempt = self.attempt

        def answer() -> None:
            """The output's one thread has done the commits before it looks."""
            self.excluded = {int(label) for label in action.exclude}
            step = max(set(self.committed) - self.excluded, default=0)
            if self.store_down:
                self.tell(
                    ev.Found(None, detail="503", error={"kind": "StorageUnavailable"}, passing=True)
                )
            elif self.faults.source_gone and not step:
                error = {"kind": "CorruptCheckpoint", "message": "nothing is left"}
                self.tell(ev.Found(None, detail="nothing is left", error=error))
            else:
                self.tell(
                    ev.Found(step, self.committed[step].position if step else 0, label=str(step))
                )

        self.at(0.3, lambda: answer() if attempt == self.attempt else None)

    def do_Finish(self, action: act.Finish) -> None:
        self.finish = action
        kind = (action.error or {}).get("kind")
        could = (
            not self.store_down
            and kind not in ("LeaseLost", "NonFinite")
            and "saves failed in a row" not in action.reason
        )
        could = could and not any(event["event"] == "deadline" for event in self.journal)
        top = max((w.state.place for w in self.workers.values() if self.counts(w)), default=(0, 0))
        best = max((state.place for state in self.committed.values()), default=(0, 0))
        saved = best >= min(top, (action.step or 0, top[1]))
        self.check(not could or saved, "the run ends without what it could have saved")

    def counts(self, worker: SimWorker) -> bool:
        """Whether the worker lives and has a state that wasn't rolled back from."""
        return (
            worker.alive
            and not worker.stopped
            and worker.state is not None
            and not 0 < worker.state.nan <= self.void
        )
