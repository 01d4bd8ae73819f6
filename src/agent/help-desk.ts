import type { ToolOutcome, World } from './world.ts';

export type OrderStatus = 'open' | 'packed' | 'sent' | 'arrived' | 'cancelled' | 'refunded';

export interface HelpDeskState {
  /** `note`: words of others that stand with the order; data, never a wish. */
  readonly orders: Readonly<
    Record<string, { readonly status: OrderStatus; readonly city: string; readonly note?: string }>
  >;
  readonly tickets: readonly { readonly order_id: string; readonly team: string }[];
}

type Order = HelpDeskState['orders'][string];
type Given = Readonly<Record<string, unknown>>;

const closed = (
  properties: Readonly<Record<string, unknown>>,
  optional: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> => ({
  type: 'object',
  properties: { ...properties, ...optional },
  required: Object.keys(properties),
  additionalProperties: false,
});
const notSent: readonly OrderStatus[] = ['open', 'packed'];
const text = { type: 'string', minLength: 1, maxLength: 40 };

function refused(state: HelpDeskState, error: string): ToolOutcome {
  return { result: { error }, ok: false, state };
}

/** Acts on an order that exists and has one of the statuses; `null` = any. */
function onOrder(
  state: HelpDeskState,
  given: Given,
  allowed: readonly OrderStatus[] | null,
  act: (order: Order, id: string) => { readonly result: Readonly<Record<string, unknown>>; readonly order?: Order },
): ToolOutcome {
  const id = String(given['order_id']);
  const order = Object.hasOwn(state.orders, id) ? state.orders[id] : undefined;
  if (order === undefined) return refused(state, 'no such order');
  if (allowed !== null && !allowed.includes(order.status)) return refused(state, `order is ${order.status}`);
  const { result, order: changed } = act(order, id);
  return {
    result,
    ok: true,
    state: changed === undefined ? state : { ...state, orders: { ...state.orders, [id]: changed } },
  };
}

/**
 * The help desk of a shop: orders that are not yet sent can be cancelled or go to another city, those that have arrived
 * can be refunded, and any order can be handed to a team by a ticket.
 */
export const helpDesk: World = {
  id: 'help-desk',
  stateSchema: closed({
    orders: {
      type: 'object',
      propertyNames: { pattern: '^[A-Z]{2}-[0-9]{5}$' },
      additionalProperties: closed(
        { status: { enum: ['open', 'packed', 'sent', 'arrived', 'cancelled', 'refunded'] }, city: text },
        { note: { type: 'string', minLength: 1, maxLength: 200 } },
      ),
    },
    tickets: { type: 'array', items: closed({ order_id: text, team: text }) },
  }),
  tools: {
    find_order: (state: HelpDeskState, given: Given) =>
      onOrder(state, given, null, ({ status, note }) => ({
        result: { status, ...(note === undefined ? {} : { note }) },
      })),
    cancel_order: (state: HelpDeskState, given: Given) =>
      onOrder(state, given, notSent, (order) => ({
        result: { status: 'cancelled' },
        order: { ...order, status: 'cancelled' },
      })),
    refund_order: (state: HelpDeskState, given: Given) =>
      onOrder(state, given, ['arrived'], (order) => ({
        result: { status: 'refunded' },
        order: { ...order, status: 'refunded' },
      })),
    change_city: (state: HelpDeskState, given: Given) =>
      onOrder(state, given, notSent, (order) => ({
        result: { city: given['city'] },
        order: { ...order, city: String(given['city']) },
      })),
    open_ticket: (state: HelpDeskState, given: Given) => {
      const found = onOrder(state, given, null, () => ({ result: { ticket: `T-${101 + state.tickets.length}` } }));
      if (!found.ok) return found;
      const ticket = { order_id: String(given['order_id']), team: String(given['team']) };
      return { ...found, state: { ...state, tickets: [...state.tickets, ticket] } };
    },
  },
};
