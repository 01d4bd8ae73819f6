import { defineErrors } from '../kit/index.ts';

export const agentErrors = defineErrors({
  CUPEL_AGENT_WORLD_UNKNOWN: {
    exit: 2,
    what: 'An episode suite names a world that does not exist.',
    mend: 'Set `world` in suite.yaml to one of the worlds that are named.',
  },
  CUPEL_AGENT_TOOL_UNKNOWN: {
    exit: 2,
    what: 'A suite or a case offers a tool that the world does not have.',
    mend: 'Offer only tools of the world, and in `input.tools` only those of the suite.',
  },
  CUPEL_AGENT_STATE_INVALID: {
    exit: 2,
    what: 'The starting state of a case is not a state of its world.',
    mend: 'Mend `input.state` of the case at the place that is named.',
  },
  CUPEL_AGENT_NO_COMPLETION: {
    exit: 4,
    what: 'An engine ended without an answer to a turn of an episode.',
    mend: 'Run again; if it stays, the engine breaks its contract.',
  },
});
