// Where the boxes of a pipeline stand: in columns, so that what flows, flows one way.
//
//     column 0        column 1        column 2
//     camera -------> detector ---->  album
//            \------> (through) --->                 a channel over several columns has a spot in each of them
//
// "Along" is the way of the flow, "across" is the other: to the right and down, or on a narrow screen down and to the
// right. Within a column the order is that of the neighbours' mean, swept to and fro; the places are as near to the
// neighbours as the order and the sizes allow.

const SWEEPS = 8;
const PULLS = 16;

/**
 * `size(node)` is {along, across}; `gap(column)` how far it is to the next column; `between` how far apart two spots of
 * a column are. The answer has a spot for each node and a way for each edge: points with the directions at its ends.
 */
export function layout({ nodes, edges }, { size, gap, between, through }) {
  const columns = [];
  const spots = new Map();
  const put = (column, spot) => ((columns[column] ??= []).push({ ...spot, column }), columns[column].at(-1));
  for (const node of nodes) spots.set(node.id, put(node.column, { ...size(node), node }));
  const ways = edges.filter((edge) => spots.has(edge.source) && spots.has(edge.target)).map((edge) => {
    const [from, to] = [spots.get(edge.source), spots.get(edge.target)];
    const back = from.column > to.column;
    const [left, right] = back ? [to, from] : [from, to];
    const passed = [];
    for (let column = left.column + 1; column < right.column; column += 1) {
      passed.push(put(column, { along: 0, across: through, edge }));
    }
    return { edge, back, beside: left.column === right.column, spots: [left, ...passed, right] };
  });
  const filled = columns.filter(Boolean);
  order(filled, ways);
  placeAcross(filled, ways, between);
  const along = placeAlong(filled, gap);
  return { spots, ways, along, across: Math.max(0, ...filled.flat().map((spot) => spot.at + spot.across / 2)) };
}

function neighbours(ways) {
  const before = new Map();
  const after = new Map();
  const add = (map, spot, other) => map.set(spot, [...(map.get(spot) ?? []), other]);
  for (const { spots, beside } of ways) {
    if (beside) continue;
    for (let step = 1; step < spots.length; step += 1) {
      add(before, spots[step], spots[step - 1]);
      add(after, spots[step - 1], spots[step]);
    }
  }
  return { before, after };
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function order(columns, ways) {
  const { before, after } = neighbours(ways);
  const number = () => columns.forEach((column) => column.forEach((spot, place) => {
    spot.place = (place + 0.5) / column.length;
  }));
  number();
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const [near, way] = sweep % 2 ? [after, [...columns].reverse()] : [before, columns];
    for (const column of way) {
      const wish = new Map(column.map((spot) => [spot, mean((near.get(spot) ?? [spot]).map((other) => other.place))]));
      column.sort((a, b) => wish.get(a) - wish.get(b));
      number();
    }
  }
}

function placeAcross(columns, ways, between) {
  const { before, after } = neighbours(ways);
  for (const column of columns) settle(column, column.map(() => 0), between);
  for (let pull = 0; pull < PULLS; pull += 1) {
    const [near, way] = pull % 2 ? [after, [...columns].reverse()] : [before, columns];
    for (const column of way) {
      const both = pull > PULLS / 2;
      const wishes = column.map((spot) => {
        const others = both ? [...(before.get(spot) ?? []), ...(after.get(spot) ?? [])] : (near.get(spot) ?? []);
        return others.length ? mean(others.map((other) => other.at)) : spot.at;
      });
      settle(column, wishes, between);
    }
  }
  const edge = Math.min(0, ...columns.flat().map((spot) => spot.at - spot.across / 2));
  for (const spot of columns.flat()) spot.at -= edge;
}

/** Each spot of a column as near to its wish as the order and the room between them allow (least squares). */
function settle(column, wishes, between) {
  const offsets = [];
  column.forEach((spot, place) => {
    const former = column[place - 1];
    offsets.push(place ? offsets[place - 1] + (former.across + spot.across) / 2 + between : 0);
  });
  const blocks = [];
  wishes.forEach((wish, place) => {
    let block = { sum: wish - offsets[place], count: 1 };
    while (blocks.length && blocks.at(-1).sum / blocks.at(-1).count > block.sum / block.count) {
      const former = blocks.pop();
      block = { sum: former.sum + block.sum, count: former.count + block.count };
    }
    blocks.push(block);
  });
  let place = 0;
  for (const { sum, count } of blocks) {
    for (let end = place + count; place < end; place += 1) column[place].at = sum / count + offsets[place];
  }
}

function placeAlong(columns, gap) {
  let along = 0;
  columns.forEach((column, number) => {
    const widest = Math.max(...column.map((spot) => spot.along));
    for (const spot of column) Object.assign(spot, { begins: along, ends: along + widest });
    along += widest + (number + 1 < columns.length ? gap(number) : 0);
  });
  return along;
}
