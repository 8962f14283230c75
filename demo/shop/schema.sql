-- The shop's database. Two customers, one of whom is asking; and a payroll, which is nobody's business.
CREATE SCHEMA shop;
CREATE TABLE shop.tickets (customer int, question text, answer text);
CREATE TABLE shop.orders (id int PRIMARY KEY, customer int, item text, status text, address text, note text);
CREATE TABLE shop.payroll (name text, dollars int);

INSERT INTO shop.tickets VALUES
  (7, 'Where is my kettle? Please send it to the office: 4 Quay Street.', NULL),
  (8, 'Is the camera in stock?', NULL);
INSERT INTO shop.orders VALUES
  (71, 7, 'kettle', 'packed', '12 Mill Lane', 'POISON'),
  (81, 8, 'camera', 'paid', '9 Abbey Road', 'Ring twice.');
INSERT INTO shop.payroll VALUES ('Ada', 98000), ('Bo', 61000);
