/* Enhances the case browser. The page is complete without it. */
(function () {
  'use strict';
  var filters = document.getElementById('filters');
  var cases = Array.prototype.slice.call(document.querySelectorAll('details.case'));
  var groups = Array.prototype.slice.call(document.querySelectorAll('.case-group'));

  function visible(item) {
    return !item.hidden;
  }

  if (filters) {
    var controls = Array.prototype.slice.call(filters.querySelectorAll('[data-filter]'));
    var count = document.getElementById('filter-count');
    var texts = new Map();
    var textOf = function (item) {
      if (!texts.has(item)) texts.set(item, item.textContent.toLowerCase());
      return texts.get(item);
    };
    var matches = function (item, wanted) {
      if (wanted.change && item.dataset.change !== wanted.change) return false;
      if (wanted.suite && item.dataset.suite !== wanted.suite) return false;
      if (wanted.metric && item.dataset.metric.split(' ').indexOf(wanted.metric) < 0) return false;
      return !wanted.text || textOf(item).indexOf(wanted.text) >= 0;
    };
    var apply = function () {
      var wanted = {};
      controls.forEach(function (control) {
        wanted[control.dataset.filter] = control.value.trim();
      });
      wanted.text = wanted.text.toLowerCase();
      cases.forEach(function (item) {
        item.hidden = !matches(item, wanted);
      });
      groups.forEach(function (group) {
        group.hidden = !cases.some(function (item) {
          return group.contains(item) && visible(item);
        });
      });
      count.textContent = cases.filter(visible).length + ' of ' + cases.length + ' cases';
    };
    controls.forEach(function (control) {
      control.addEventListener('input', apply);
    });
    filters.hidden = false;
    apply();
  }

  document.addEventListener('keydown', function (event) {
    if ((event.key !== 'j' && event.key !== 'k') || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    var shown = cases.filter(visible);
    var at = shown.findIndex(function (item) {
      return item.contains(document.activeElement);
    });
    var next = shown[event.key === 'j' ? at + 1 : at < 0 ? 0 : at - 1];
    if (!next) return;
    event.preventDefault();
    next.querySelector('summary').focus();
    next.scrollIntoView({ block: 'nearest' });
  });

  var closed = [];
  window.addEventListener('beforeprint', function () {
    closed = Array.prototype.slice.call(document.querySelectorAll('details:not([open])'));
    closed.forEach(function (item) {
      item.open = true;
    });
  });
  window.addEventListener('afterprint', function () {
    closed.forEach(function (item) {
      item.open = false;
    });
  });
})();
