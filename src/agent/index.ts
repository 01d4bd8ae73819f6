export { agentErrors } from './errors.ts';
export { helpDesk, type HelpDeskState, type OrderStatus } from './help-desk.ts';
export { playEpisodes } from './play.ts';
export { type AssistantTurn, readTurn, writeCall, writeResult } from './protocol.ts';
export { scripted } from './scripted.ts';
export { brokenAt, chainHash, TraceWriter } from './trace.ts';
export type { ToolOutcome, World } from './world.ts';
