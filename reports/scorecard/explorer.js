/* The trade-off explorer: any two metrics of the comparison table, all checkpoints, drawn by Chart.js. */
(function () {
  'use strict';
  var figure = document.getElementById('explorer');
  if (!figure || typeof Chart === 'undefined') return;
  var canvas = figure.querySelector('canvas');
  var selects = { x: figure.querySelector('[name=x]'), y: figure.querySelector('[name=y]') };
  var table = document.querySelector('table.comparison');
  var list = function (nodes) {
    return Array.prototype.slice.call(nodes);
  };
  var checkpoints = list(table.querySelectorAll('thead th[data-checkpoint]')).map(function (head) {
    return { id: head.dataset.checkpoint, own: head.classList.contains('own') };
  });
  var rows = list(table.querySelectorAll('tr[data-title]')).map(function (row) {
    return {
      title: row.dataset.title,
      lower: row.dataset.lower === 'true',
      unit: row.dataset.unit,
      cells: list(row.querySelectorAll('td')).map(function (cell) {
        if (cell.dataset.value === '') return null;
        return { value: Number(cell.dataset.value), low: bound(cell.dataset.low), high: bound(cell.dataset.high) };
      }),
    };
  });
  function bound(text) {
    return text === '' ? null : Number(text);
  }

  ['x', 'y'].forEach(function (axis) {
    rows.forEach(function (row, index) {
      var option = document.createElement('option');
      option.value = String(index);
      option.textContent = row.title;
      selects[axis].append(option);
    });
    selects[axis].value = figure.dataset[axis];
    selects[axis].addEventListener('input', draw);
  });

  var shapes = ['circle', 'triangle', 'rect', 'rectRot', 'star', 'crossRot', 'rectRounded', 'cross'];
  var chart = null;

  /* Where a name covers no other one: right or left of its point, above or below, ever further away. */
  function freePlace(point, width, area, taken) {
    var places = [];
    [-20, 6, -34, 20, -48, 34].forEach(function (down) {
      [9, -9 - width].forEach(function (along) {
        places.push({ left: point.x + along, top: point.y + down, width: width, height: 14 });
      });
    });
    var free = places.filter(function (place) {
      var inside =
        place.left >= area.left &&
        place.left + width <= area.right &&
        place.top >= area.top - 8 &&
        place.top + 14 <= area.bottom;
      return (
        inside &&
        !taken.some(function (other) {
          return (
            place.left < other.left + other.width &&
            other.left < place.left + width &&
            place.top < other.top + 14 &&
            other.top < place.top + 14
          );
        })
      );
    });
    return free[0] || places[0];
  }

  /* From the lowest to the highest interval end, with room; percentages stay between 0 and 100. */
  function rangeOf(row) {
    var ends = [];
    row.cells.forEach(function (cell) {
      if (cell)
        ends.push(cell.value, cell.low === null ? cell.value : cell.low, cell.high === null ? cell.value : cell.high);
    });
    var low = Math.min.apply(null, ends);
    var high = Math.max.apply(null, ends);
    var room = (high - low) * 0.06 || 1;
    return row.unit === '%'
      ? { min: Math.max(0, Math.floor(low - room)), max: Math.min(100, Math.ceil(high + room)) }
      : { min: low - room, max: high + room };
  }

  /* Interval bars and names: the library has neither. */
  var marks = {
    id: 'marks',
    afterDatasetsDraw: function (shown) {
      var context = shown.ctx;
      var taken = [];
      shown.data.datasets.forEach(function (set, index) {
        var point = shown.getDatasetMeta(index).data[0];
        if (!point) return;
        context.save();
        context.strokeStyle = set.borderColor;
        context.globalAlpha = 0.55;
        context.beginPath();
        if (set.x.low !== null && set.x.high !== null) {
          context.moveTo(shown.scales.x.getPixelForValue(set.x.low), point.y);
          context.lineTo(shown.scales.x.getPixelForValue(set.x.high), point.y);
        }
        if (set.y.low !== null && set.y.high !== null) {
          context.moveTo(point.x, shown.scales.y.getPixelForValue(set.y.low));
          context.lineTo(point.x, shown.scales.y.getPixelForValue(set.y.high));
        }
        context.stroke();
        context.globalAlpha = 1;
        context.fillStyle = set.borderColor;
        context.font = (set.own ? '700' : '400') + ' 12px ' + Chart.defaults.font.family;
        var place = freePlace(point, context.measureText(set.label).width, shown.chartArea, taken);
        taken.push(place);
        context.fillText(set.label, place.left, place.top + 11);
        context.restore();
      });
    },
  };

  function axisOptions(row, colours) {
    var range = rangeOf(row);
    return {
      title: {
        display: true,
        text: row.title + (row.unit ? ', ' + row.unit : '') + (row.lower ? ' (turned: lower is better)' : ''),
        color: colours.quiet,
      },
      reverse: row.lower,
      min: range.min,
      max: range.max,
      grid: { color: colours.line },
      ticks: {
        color: colours.quiet,
        callback: function (value) {
          return Number(Number(value).toPrecision(3));
        },
      },
    };
  }

  function draw() {
    var style = getComputedStyle(document.documentElement);
    var colour = function (name) {
      return style.getPropertyValue('--' + name).trim();
    };
    var colours = { ink: colour('ink'), quiet: colour('quiet'), line: colour('line'), link: colour('link') };
    var x = rows[Number(selects.x.value)];
    var y = rows[Number(selects.y.value)];
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    var sets = [];
    checkpoints.forEach(function (checkpoint, index) {
      var across = x.cells[index];
      var up = y.cells[index];
      if (!across || !up) return;
      sets.push({
        label: checkpoint.id,
        own: checkpoint.own,
        x: across,
        y: up,
        data: [{ x: across.value, y: up.value }],
        clip: false,
        pointStyle: shapes[index % shapes.length],
        pointRadius: checkpoint.own ? 7 : 5,
        pointHoverRadius: 9,
        borderColor: checkpoint.own ? colours.link : colours.ink,
        backgroundColor: checkpoint.own ? colours.link : colours.quiet,
      });
    });
    canvas.setAttribute(
      'aria-label',
      y.title + ' against ' + x.title + ' for ' + sets.length + ' checkpoints; the table above has the figures',
    );
    if (chart) chart.destroy();
    chart = new Chart(canvas, {
      type: 'scatter',
      data: { datasets: sets },
      plugins: [marks],
      options: {
        animation: false,
        maintainAspectRatio: false,
        scales: { x: axisOptions(x, colours), y: axisOptions(y, colours) },
        plugins: {
          legend: { display: false },
          tooltip: {
            callbacks: {
              label: function (item) {
                var show = function (row, cell) {
                  return (
                    row.title +
                    ': ' +
                    cell.value +
                    (row.unit ? ' ' + row.unit : '') +
                    (cell.low === null ? '' : ' (' + cell.low + ' to ' + cell.high + ')')
                  );
                };
                return [item.dataset.label, show(x, item.dataset.x), show(y, item.dataset.y)];
              },
            },
          },
        },
      },
    });
  }

  figure.hidden = false;
  draw();
  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
})();
