CREATE OR REPLACE FUNCTION compute_names() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.first_name := split_part(NEW.full_name, ' ', 1);
    NEW.last_name := split_part(NEW.full_name, ' ', 2);
    RETURN NEW;
END
$$;
CREATE TRIGGER compute_names BEFORE INSERT OR UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION compute_names();
